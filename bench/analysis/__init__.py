"""From records to numbers: statistics, rooflines, phases and traces.

Pure functions over what `bench.schema` defines: nothing here reads a file or asks the machine.
"""
