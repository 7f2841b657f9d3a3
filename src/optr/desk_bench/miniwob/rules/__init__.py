"""How tasks are done: each rule knows one kind of them by what is asked for or shown, and does it step by step.

A rule is two functions. The first looks at the page as it is at the beginning and answers something true if it knows
such a task; the second, a generator, is given that and yields actions, or None to wait a moment; it is sent the page
after each. It sees what is drawn, and never how the page decides.
"""
