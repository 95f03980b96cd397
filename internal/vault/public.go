package vault

// PublicKeyFile is the name, in the vault's directory, of the file that holds the
// public half of the provenance key (PEM) and is to be published.
const PublicKeyFile = provenancePub
