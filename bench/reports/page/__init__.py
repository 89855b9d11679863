"""`report.html`: one page of runs that opens from disk and needs no network.

`source` reads the folders; `works`, `records` and `table` make the data; `findings` makes the
sentences; `figure` and the chart modules draw with Altair; `page` puts the page together from
`files/`.
"""
