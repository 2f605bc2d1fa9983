complete --keep-order --exclusive --command kmeshctl --arguments "(COMPLETE=fish kmeshctl -- (commandline --current-process --tokenize --cut-at-cursor) (commandline --current-token))"
