"""What people look at.

progress   a run of training while it happens: a bar, lines, or JSON
members    who is in a cluster, as a table
"""
