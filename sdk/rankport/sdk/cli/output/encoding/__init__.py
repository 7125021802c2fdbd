"""Progress, report and page of an encode job."""
