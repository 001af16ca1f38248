"""Who may use the page: passwords, sessions, limits of attempts, and the gate through which every request passes."""
