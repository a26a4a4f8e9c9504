"""Recording, the impure part.

`record` says what to keep, `recording` attaches and gives back, `waist` sees attention, `take` is what was seen.
"""
