"""The planner's snapshot of desired, observed and in-flight state, and what is asked of it. Pure."""
