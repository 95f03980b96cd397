package store

import "testing"

// testSuite is what every database has to pass. open returns an empty store
// whose Check is run, and which is closed, when the test ends.
func testSuite(t *testing.T, open func(t testing.TB) *Store) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, s *Store)
	}{
		{"Account", testAccount},
		{"RemoveAccount", testRemoveAccount},
		{"Credential", testCredential},
		{"Certificate", testCertificate},
		{"Published", testPublished},
		{"ListedBatches", testListedBatches},
		{"Peers", testPeers},
		{"Mailbox", testMailbox},
		{"DeleteMailbox", testDeleteMailbox},
		{"Rename", testRename},
		{"RenameInbox", testRenameInbox},
		{"UIDValidity", testUIDValidity},
		{"Commit", testCommit},
		{"Gate", testGate},
		{"CommitRefuses", testCommitRefuses},
		{"Quota", testQuota},
		{"SharedMessage", testSharedMessage},
		{"Held", testHeld},
		{"Audit", testAudit},
		{"Flags", testFlags},
		{"FlagsSteps", testFlagsSteps},
		{"Keywords", testKeywords},
		{"UnchangedSince", testUnchangedSince},
		{"Expunge", testExpunge},
		{"ExpungeSteps", testExpungeSteps},
		{"Copy", testCopy},
		{"Move", testMove},
		{"UIDsNeverRepeat", testUIDsNeverRepeat},
		{"View", testView},
		{"ViewProperty", testViewProperty},
		{"ViewConcurrent", testViewConcurrent},
		{"Messages", testMessages},
		{"MessagesPages", testMessagesPages},
		{"Blobs", testBlobs},
		{"Check", testCheck},
		{"Race", testRace},
		{"OutgoingGate", testOutgoingGate},
		{"OutgoingRefuses", testOutgoingRefuses},
		{"Express", testExpress},
		{"Claim", testClaim},
		{"Lanes", testLanes},
		{"Fair", testFair},
		{"Groups", testGroups},
		{"Replaced", testReplaced},
		{"Overdue", testOverdue},
		{"Operator", testOperator},
		{"RemovedSender", testRemovedSender},
		{"QueueProperty", testQueueProperty},
		{"STSPolicies", testSTSPolicies},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(t, open(t))
		})
	}
}

func TestSQLite(t *testing.T) {
	t.Parallel()
	testSuite(t, openTemp)
}
