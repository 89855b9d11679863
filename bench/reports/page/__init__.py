"""`report.html`: one page of runs that opens from disk and needs no network.

`source` reads the folders, `records` and `table` hold what is shown, `findings` says it in words,
`figure` and the charts draw it with Altair, and `page` puts it together from `files/`.
"""
