# Completion of dvid in fish: this file as ~/.config/fish/completions/dvid.fish
function __dvid_complete
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    set -l answer (env _DVID_COMPLETE=fish $typed[1] $typed[2..-1] "$current" 2>/dev/null)
    if test (count $answer) -gt 1
        printf '%s\n' $answer[2..-1]
    end
    if test "$answer[1]" = files
        set -l option (string match -r '^--[^=]*=' -- $current)
        if test -n "$option"
            __fish_complete_path (string replace -- $option '' $current) |
                string replace -r '^' -- $option
        else
            __fish_complete_path $current
        end
    end
end
complete --command dvid --no-files --keep-order --arguments '(__dvid_complete)'
