"""`dyna_ppo` beside its rivals, and without each of its parts, on synthetic landscapes."""
