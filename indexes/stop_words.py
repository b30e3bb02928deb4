"""English words that say nothing about a page: function words and question words."""

_WORDS = """
a about above after again against all also am an and any are as at be because been before being below between both but by
can could did do does doing down during each few for from further had has have having he her here hers him his how i if
in into is it its itself just may me might more most must my no nor not now of off on once only or other our out over
own per same she should so some such than that the their them then there these they this those through to too under
until up upon us very was we were what when where which while who whom whose why will with would you your
"""
STOP_WORDS = frozenset(_WORDS.split())
