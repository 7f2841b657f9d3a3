"""Actions as other people's agents and datasets write them, into ours and, where they can be said there, back.

Each module reads one format: `from_...` gives the actions that say the same, `to_...` the other way. Nothing that comes
in is ever executed. What a format cannot say, and what has no meaning here, is a `DesktopError`. What those formats say
about pacing is left out: input is paced here.
"""
