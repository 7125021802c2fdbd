"""Membership audit of two encoders of job titles: one that was trained too long, and one that was stopped in time."""
