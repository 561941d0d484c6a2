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
                if ($text -match '[^\w./:=@,+-]') { $shown = "'" + $text.Replace("'", "''") + "'" }
                if (-not $told) { $told = $text }
                [System.Management.Automation.CompletionResult]::new(
                    $shown, $text, 'ParameterValue', $told)
            }
    } finally {
        Remove-Item Env:_DVID_COMPLETE, Env:_DVID_COMPLETE_WORD -ErrorAction SilentlyContinue
    }
}
