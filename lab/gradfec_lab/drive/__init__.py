"""The whole loop in virtual time: the real protocol cores, plans and codes over a simulated link, without daemons.

What takes the daemons minutes on an idle machine takes seconds here, whatever else the machine does, and comes out
the same each time.
"""
