"""What this computer is, what others do on it, and what a child may see of it.

Facts and readings only: nothing here starts a launch, judges a number or imports a framework.
"""
