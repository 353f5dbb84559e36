"""Names and places, found by small models that run on a processor (the extra `pii`); English."""
