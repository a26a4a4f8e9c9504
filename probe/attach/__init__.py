"""Recording: the impure part. `families` says what differs between models, `waist` sees attention, `record` attaches."""
