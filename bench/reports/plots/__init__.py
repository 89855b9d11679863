"""Pictures, made with matplotlib; imported where one is drawn, for that takes half a second."""
