"""The page of `eggan serve`: photographs in a browser on this machine, with a slider for each Action Unit.

`desk` does the work for every visitor, over the one `Editor`; `layout` is the Gradio page; `server` serves it to this
machine alone, with nothing on it that comes from another host. `faces/` has the example photographs.
"""
