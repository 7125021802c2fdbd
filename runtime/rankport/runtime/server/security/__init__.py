"""Who may call a server, how much and over what: certificates, tokens, rights, quotas. Knows no protocol, no model."""
