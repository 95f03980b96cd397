// Package wks is the Web Key Service (draft-koch-openpgp-webkey-service 4): an account
// hands in its certificate by mail. It stands before the one door, and takes what is
// sent to key-submission@DOMAIN, for which there is no account; everything else goes
// through untouched.
//
//	door.go      which mail is for the service
//	request.go   what such a mail holds
//	answer.go    the confirmation request, and what proves its answer
//
// The conversation: a client sends the certificate, encrypted to the domain's request
// key; the service answers into the account's INBOX, encrypted to that certificate, with
// a nonce; the client sends the nonce back, and the certificate is handed to the key
// directory. So whoever sends it can read the account's mail, and has the secret key.
// Who the mail claims to be from proves nothing, and is not asked.
//
// Between request and answer the certificate is remembered in the cluster's cache, for a
// day at most. If that is lost, the client has to begin again: nothing was promised. The
// nonce is a MAC over address, certificate and time, so that nothing in the cache can
// make a certificate that of another address.
//
// It never sends mail to anybody who has no account here, never keeps a request on a
// disk, and opens nothing but requests.
package wks
