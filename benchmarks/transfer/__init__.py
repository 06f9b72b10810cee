"""Transfer: a policy trained on other tables, then 20 evaluations on one that it has never seen."""
