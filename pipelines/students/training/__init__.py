"""How the student is trained: one rank's loop (torch only), and Ray Train around it."""
