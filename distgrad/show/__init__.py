"""What people look at.

progress   a run of training while it happens: a bar, lines, or JSON
schedules  what pipeline schedules would make of a job
members    who is in a cluster, as a table
"""
