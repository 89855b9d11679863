"""The code that uses TensorFlow: device, ceilings and variants of a step.

`device` takes the module as an argument, so that tests can replace it.
"""
