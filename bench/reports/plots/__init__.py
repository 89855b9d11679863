"""Pictures, made with matplotlib.

The modules are imported only where a picture is drawn, because that takes half a second.
"""
