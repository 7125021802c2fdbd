"""Commands, a module each, named as they are typed. `app` imports the one that is chosen; they import no other."""
