"""Making the shipped models and tables; nothing here is imported at run time."""
