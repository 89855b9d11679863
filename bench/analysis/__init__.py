"""From records to numbers: statistics, rooflines, phases and traces.

Pure functions over the types of `bench.schema`: nothing here reads a file or asks the machine.
"""
