"""The demo: a day in Anping, through the real service, checked by itself."""
