# Completion of dvid in bash. In ~/.bashrc: source <(dvid --show-completion bash)
_dvid() {
    local line what=
    COMPREPLY=()
    while IFS= read -r line; do
        if [[ $what ]]; then COMPREPLY+=("$line"); else what=$line; fi
    done < <(_DVID_COMPLETE=bash "$1" "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
    # Without any word, readline itself completes the names of files.
    if [[ $what != files ]]; then
        compopt +o default 2>/dev/null
    elif (( ${#COMPREPLY[@]} )); then
        compopt -o filenames 2>/dev/null
        while IFS= read -r line; do COMPREPLY+=("$line"); done             < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
    fi
}
complete -o default -o nosort -F _dvid dvid 2>/dev/null || complete -o default -F _dvid dvid
