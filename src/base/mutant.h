/* mutant: seeded bugs, to see that the tests catch them. Switched on at run time, one at a time, in builds for tests alone;
 * a release build knows none: there mutant() is the constant 0 and the code behind it goes away.
 *
 *   if (!mutant(M_PLAN_NO_CYCLE_CHECK))
 *           break_cycles(m);
 *
 * A new one is a row here, its place in the code, and a row in the table of HACKING.md that says which check caught it.
 */
#ifndef SD_BASE_MUTANT_H
#define SD_BASE_MUTANT_H

/* X(name, the bug) */
#define MUTANTS(X) \
	X(PLAN_NO_BASE_CHECK, "edited on both sides: the server's bytes replace the local ones") \
	X(PLAN_NO_CYCLE_CHECK, "moves that form a cycle are not undone") \
	X(PLAN_PATH_NOT_ID, "what has the same path is the same thing, whatever its bytes") \
	X(PLAN_ABSENCE_DELETES, "what is new here and unknown to the server was deleted there") \
	X(PLAN_EDIT_LOSES, "a file deleted on one side and edited on the other is deleted") \
	X(PLAN_NO_SURVIVAL, "a deleted folder goes with the fresh files in it") \
	X(PLAN_NO_WAIT, "a deleted folder goes before what was moved out of it") \
	X(PLAN_TWIN_FORGOTTEN, "the name that a case twin bears here is taken for a rename") \
	X(PLAN_UNORDERED, "nodes are looked at in the order in which the hash table gives them") \
	X(PLAN_NO_TEMP_NAME, "names that wait for each other in a ring are left waiting") \
	X(PLAN_NAME_TAKEN, "a name that is taken here is used all the same") \
	X(PLAN_MODE_FORGOTTEN, "a changed executable bit is not carried over") \
	X(PLAN_RECORD_EARLY, "contents are recorded as agreed before they are") \
	X(TREE_MOVE_UNTOUCHED, "a moved node is not looked at again") \
	X(GUARD_OFF, "no number of deletions is too many") \
	X(RESOLVE_ALWAYS_CURRENT, "a stale base is taken for the current one") \
	X(PLAN_TEMP_STAYS, "a temporary name that was forgotten stays") \
	X(AGENT_NO_SETTLE, "results are recorded before what they tell of is on the disk") \
	X(AGENT_CURSOR_FIRST, "the cursor moves before the changes of its page are taken") \
	X(AGENT_ABSENCE_DELETES, "what a restored server lacks was deleted") \
	X(AGENT_IDS_ALONE, "what came after a restore is told by its id alone") \
	X(AGENT_FORGOTTEN, "a restored server is not told of the device") \
	X(AGENT_INTENTIONS, "an upload is recorded as done though no answer came") \
	X(AGENT_CAME_ALONG, "an unknown folder that was moved is taken for an empty one") \
	X(AGENT_OLD_STATE, "a state that was put back from a copy is taken for the latest") \
	X(AGENT_TRASH_UNTOLD, "what the client trashes is not written down before") \
	X(ACT_OVERWRITE, "a file that was edited since the plan is overwritten") \
	X(ACT_TRASH, "a file that was edited since the plan goes to the trash") \
	X(FETCH_UNVERIFIED, "downloaded bytes are not verified") \
	X(FETCH_NO_SYNC, "downloaded files get their names before their bytes are on the disk") \
	X(REPLICA_NO_TOMBSTONES, "what goes from a tree stays in the database") \
	X(DRIVE_NO_CYCLE_CHECK, "a folder may be moved below itself") \
	X(DRIVE_DELETE_ANYHOW, "a file is deleted whatever its deleter had seen") \
	X(DRIVE_FRESH_FILES_GO, "a deleted folder goes with files that its deleter never saw") \
	X(DRIVE_QUOTA_UNSETTLED, "used bytes are not counted") \
	X(DRIVE_EPOCH_AGAIN, "the numbers behind a restore follow those before") \
	X(DRIVE_LOG_FORGETS, "a rename has no entry in the log") \
	X(DRIVE_IDS_ANEW, "ids begin with the clock, wherever the database's end") \
	X(DRIVE_LEAVES_SILENTLY, "a share is not told of what moved to another") \
	X(DRIVE_SHARE_STAYS, "what lies in a folder stays in the share that the folder leaves") \
	X(PACK_NO_SYNC, "a version is committed before its chunks are on the disk") \
	X(PACK_NO_NAME_SYNC, "the name of a new pack is not synced") \
	X(SWEEP_SEES_MARKED, "a new upload finds what is condemned") \
	X(SWEEP_ONE_LOOK, "what is condemned goes in the same pass") \
	X(COLLECT_NO_LEASES, "leases are no roots") \
	X(COLLECT_NO_PARTS, "the parts of uploads are no roots") \
	X(COLLECT_NO_REMOVED, "the chunks of a version go with it") \
	X(COLLECT_NO_TAILS, "a pack goes though the tail of an upload lies in it") \
	X(CONTENT_NEVER_OLD, "what an upload found long ago is used unseen") \
	X(REPACK_NO_SYNC, "rows are moved to copies that are not on the disk") \
	X(DB_NO_SYNC, "a commit does not wait for the disk") \
	X(DB_COMMIT_ASSUMED, "a commit that failed is taken for done") \
	X(DB_LOG_UNSYNCED, "what a process that ended left in the log is served before it is on the disk") \
	X(DB_LOG_UNWRITTEN, "a log that a failed sync left behind is not written once more") \
	X(DB_LOG_SYNC_FIRST, "what waits for the log is written behind its sync") \
	X(DB_LOG_LOSS_UNTOLD, "a joined write that fails is not told of") \
	X(DB_HALF_DONE, "what failed in part is not undone")

enum mutant_name {
	M_NONE,
#define MUTANT_ENUM(name, bug) M_##name,
	MUTANTS(MUTANT_ENUM)
#undef MUTANT_ENUM
	M_COUNT
};

#ifdef SD_MUTANTS
extern int mutant_on; /* an enum mutant_name; set by test programs before they start threads */
#define mutant(name) __builtin_expect(mutant_on == (name), 0)
#else
#define mutant(name) 0
#endif

/* "PLAN_NO_BASE_CHECK", and the bug in words. */
const char *mutant_label(enum mutant_name name);
const char *mutant_bug(enum mutant_name name);

#endif
