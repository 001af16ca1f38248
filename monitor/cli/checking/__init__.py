"""Commands that check the installation, and collect what a bug report needs."""
