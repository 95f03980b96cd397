package policy

import "strings"

// Facts are what a rule may know of a message and one of its recipients. The tag expr
// is the name in a rule, toml the one in an example, and doc what it means; addresses
// and domains are in lower case with A-labels, as mail.Address.Key writes them.
// configs/policy.toml shows all of them.
type Facts struct {
	Account         string            `expr:"account" toml:"account" doc:"who logged in"`
	Sender          string            `expr:"sender" toml:"sender" doc:"the address in From"`
	SenderDomain    string            `expr:"sender_domain" toml:"sender_domain" doc:"its domain"`
	Recipient       string            `expr:"recipient" toml:"recipient" doc:"the recipient whose copy is decided on"`
	RecipientDomain string            `expr:"recipient_domain" toml:"recipient_domain" doc:"its domain"`
	Size            int64             `expr:"size" toml:"size" doc:"octets of the message"`
	Encrypted       bool              `expr:"encrypted" toml:"encrypted" doc:"the sender's own software encrypted it"`
	Signed          bool              `expr:"signed" toml:"signed" doc:"the sender's own software signed it"`
	List            bool              `expr:"list" toml:"list" doc:"it has a List-Id or another List- field: it goes to or comes from a list"`
	Calendar        bool              `expr:"calendar" toml:"calendar" doc:"it has a part of type text/calendar: an invitation or the answer to one"`
	Automatic       bool              `expr:"automatic" toml:"automatic" doc:"a program wrote it (Auto-Submitted other than no)"`
	Sensitivity     string            `expr:"sensitivity" toml:"sensitivity" doc:"the field Sensitivity in lower case, as Outlook sets it: \"personal\", \"private\", \"company-confidential\", or \"\""`
	Wish            string            `expr:"wish" toml:"wish" doc:"what the sender's own words ask for: \"require\", \"clear\" or \"\"; it is applied to every rule's order anyway"`
	Recipients      int               `expr:"recipients" toml:"recipients" doc:"how many recipients the message has"`
	Header          map[string]string `expr:"header" toml:"header" doc:"the first value of a header field by its name in lower case, such as header[\"x-priority\"]; \"\" if there is none"`
}

// complete fills in what follows from the rest: an example need not say it twice.
func (f *Facts) complete() {
	for _, a := range []struct {
		address string
		domain  *string
	}{{f.Sender, &f.SenderDomain}, {f.Recipient, &f.RecipientDomain}} {
		if at := strings.LastIndexByte(a.address, '@'); at >= 0 && *a.domain == "" {
			*a.domain = a.address[at+1:]
		}
	}
	if f.Account == "" {
		f.Account = f.Sender
	}
	if f.Recipients == 0 {
		f.Recipients = 1
	}
}
