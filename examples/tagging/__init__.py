"""Tagging on real texts: slots of requests to a voice assistant, skills in job postings."""
