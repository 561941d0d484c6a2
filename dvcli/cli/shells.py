"""The script that makes each shell complete `dvid`, and where that shell looks for it."""

import os
from pathlib import Path
from typing import Literal, get_args

from dvcli.errors import StorageError, UsageError

Shell = Literal["bash", "zsh", "fish", "powershell"]
SHELLS: tuple[str, ...] = get_args(Shell)

BASH = """\
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
        while IFS= read -r line; do COMPREPLY+=("$line"); done \
            < <(compgen -f -- "${COMP_WORDS[COMP_CWORD]}")
    fi
}
complete -o default -o nosort -F _dvid dvid 2>/dev/null || complete -o default -F _dvid dvid
"""

ZSH = """\
#compdef dvid
# Completion of dvid in zsh: this file as _dvid in a folder of $fpath, before compinit.
_dvid() {
    local -a answer found
    local line word told
    answer=("${(@f)$(_DVID_COMPLETE=zsh ${words[1]} \\
        "${(@Q)words[2,CURRENT-1]}" "${(Q)PREFIX}" 2>/dev/null)}")
    for line in "${(@)answer[2,-1]}"; do
        word=${line%%$'\\t'*} told=${line#*$'\\t'}
        found+=("${${word//\\\\/\\\\\\\\}//:/\\\\:}${told:+:$told}")
    done
    (( $#found )) && _describe -V 'dvid' found
    if [[ $answer[1] == files ]]; then
        [[ $PREFIX == --*=* ]] && compset -P '*='
        _files
    fi
}
if [[ $funcstack[1] == _dvid ]]; then _dvid "$@"; else compdef _dvid dvid; fi
"""

FISH = """\
# Completion of dvid in fish: this file as ~/.config/fish/completions/dvid.fish
function __dvid_complete
    set -l typed (commandline -opc)
    set -l current (commandline -ct)
    set -l answer (env _DVID_COMPLETE=fish $typed[1] $typed[2..-1] "$current" 2>/dev/null)
    if test (count $answer) -gt 1
        printf '%s\\n' $answer[2..-1]
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
"""

POWERSHELL = """\
# Completion of dvid in PowerShell: in $PROFILE
#   dvid --show-completion powershell | Out-String | Invoke-Expression
Register-ArgumentCompleter -Native -CommandName dvid -ScriptBlock {
    param($word, $tree, $cursor)
    $typed = @($tree.CommandElements | Select-Object -Skip 1 |
        Where-Object { $_.Extent.EndOffset -lt $cursor } |
        ForEach-Object {
            if ($null -ne $_.Value) { "$($_.Value)" } else { $_.Extent.Text }
        })
    $env:_DVID_COMPLETE = 'powershell'
    $env:_DVID_COMPLETE_WORD = $word
    try {
        # Where nothing is answered, PowerShell itself completes the names of files.
        & $tree.CommandElements[0].Extent.Text @typed 2>$null | Select-Object -Skip 1 |
            ForEach-Object {
                $text, $told = $_ -split "`t", 2
                $shown = $text
                if ($text -match '[^\\w./:=@,+-]') { $shown = "'" + $text.Replace("'", "''") + "'" }
                if (-not $told) { $told = $text }
                [System.Management.Automation.CompletionResult]::new(
                    $shown, $text, 'ParameterValue', $told)
            }
    } finally {
        Remove-Item Env:_DVID_COMPLETE, Env:_DVID_COMPLETE_WORD -ErrorAction SilentlyContinue
    }
}
"""

SCRIPTS: dict[str, str] = {"bash": BASH, "zsh": ZSH, "fish": FISH, "powershell": POWERSHELL}


def script(shell: str) -> str:
    """The script of that shell. Raises `UsageError` for one that there is none for."""
    name = "powershell" if shell == "pwsh" else shell
    if name not in SCRIPTS:
        raise UsageError(
            f"no completion for the shell `{shell}`", hint="one of " + ", ".join(SHELLS)
        )
    return SCRIPTS[name]


def install(shell: str) -> tuple[str, str]:
    """Where the shell finds the script from its next start on, and the file that has it read there.

    The latter is empty where there is none. Running it twice changes nothing.
    """
    text, home = script(shell), Path.home()
    if SCRIPTS["powershell"] == text:
        raise UsageError(
            "PowerShell has its profile where only it knows",
            hint="add `dvid --show-completion powershell | Out-String | Invoke-Expression` to it",
        )
    data = Path(os.environ.get("XDG_DATA_HOME") or home / ".local" / "share")
    config = Path(os.environ.get("XDG_CONFIG_HOME") or home / ".config")
    place, profile, lines = {
        "bash": (data / "dvid" / "dvid.bash", home / ".bashrc", "source '{place}'"),
        "zsh": (
            data / "dvid" / "zsh" / "_dvid",
            home / ".zshrc",
            "fpath+=('{folder}'); autoload -Uz compinit; compinit",
        ),
        "fish": (config / "fish" / "completions" / "dvid.fish", None, ""),
    }[shell]
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text, encoding="utf-8")
        if profile is not None:
            _add(profile, lines.format(place=place, folder=place.parent))
    except OSError as refused:
        raise StorageError(
            f"`{refused.filename}` cannot be written: {refused.strerror}",
            hint=f"`dvid --show-completion {shell}` prints the script",
        ) from refused
    return str(place), "" if profile is None else str(profile)


def _add(profile: Path, line: str) -> None:
    before = profile.read_text(encoding="utf-8") if profile.exists() else ""
    if line not in before.splitlines():
        gap = "" if not before or before.endswith("\n") else "\n"
        with profile.open("a", encoding="utf-8") as file:
            file.write(f"{gap}{line}\n")
