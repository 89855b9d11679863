"""`report.html`: one page of a run, or of several, that opens from disk and needs no network.

source.py     reads the folders
records.py    what the charts show, a plain record a case and a round
findings.py   what the numbers say, in words
table.py      the columns of the table of cases
figure.py charts.py roundcharts.py   Vega-Lite charts, made with Altair
page.py       puts it together; files/ holds the template, the style and the script
"""
