"""Recording, the impure part: `families` says what differs, `waist` sees attention, `record` attaches."""
