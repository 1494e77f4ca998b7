"""From settings to a plan: a uniform width with fallback, the entropy rule, the solver."""
