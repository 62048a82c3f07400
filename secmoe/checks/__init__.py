"""The checks that a user's protocol goes through: what each says, one module per kind of evidence."""
