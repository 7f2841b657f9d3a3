"""optr-desk: tasks on real small applications, each with a checker that does not look at the screen, and an oracle."""
