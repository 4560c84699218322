package main

import (
	"context"
	"errors"
	"fmt"
	"sort"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type event struct {
	kind       string
	partitions map[int32]bool
}

type place struct {
	partition int32
	offset    int64
	value     string
}

// A consumer of a group in a goroutine of its own: what it owns, what happened to it, what it read. It commits what it read when it loses a partition.
type member struct {
	sync.Mutex
	c       *kgo.Client
	topic   string
	commits bool
	owned   map[int32]bool
	events  []event
	got     []place
	errs    []error
	ended   chan bool
}

func join(group, topic string, opts ...kgo.Opt) *member {
	m := &member{topic: topic, owned: map[int32]bool{}, commits: true, ended: make(chan bool)}
	base := []kgo.Opt{
		kgo.ConsumerGroup(group),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.SessionTimeout(20 * time.Second),
		kgo.HeartbeatInterval(100 * time.Millisecond),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, got map[string][]int32) {
			m.Lock()
			defer m.Unlock()
			if len(got) > 0 {
				m.events = append(m.events, event{"assigned", sets(got[topic]...)})
			}
			for _, p := range got[topic] {
				m.owned[p] = true
			}
		}),
		kgo.OnPartitionsRevoked(func(ctx context.Context, c *kgo.Client, gone map[string][]int32) {
			m.Lock()
			commits := m.commits
			m.Unlock()
			if commits {
				if err := c.CommitUncommittedOffsets(ctx); err != nil {
					m.Lock()
					m.errs = append(m.errs, err)
					m.Unlock()
				}
			}
			m.gone("revoked", gone[topic])
		}),
		kgo.OnPartitionsLost(func(_ context.Context, _ *kgo.Client, gone map[string][]int32) { m.gone("lost", gone[topic]) }),
	}
	m.c = client(append(base, opts...)...)
	go func() {
		defer close(m.ended)
		for {
			fetches := m.c.PollFetches(context.Background())
			if fetches.IsClientClosed() {
				return
			}
			m.Lock()
			fetches.EachError(func(_ string, _ int32, err error) { m.errs = append(m.errs, err) })
			fetches.EachRecord(func(r *kgo.Record) {
				if !m.owned[r.Partition] {
					m.errs = append(m.errs, fmt.Errorf("a record of partition %d, which it does not own", r.Partition))
				}
				m.got = append(m.got, place{r.Partition, r.Offset, string(r.Value)})
			})
			m.Unlock()
			m.c.AllowRebalance()
		}
	}()
	return m
}

func (m *member) gone(kind string, partitions []int32) {
	m.Lock()
	defer m.Unlock()
	if len(partitions) > 0 {
		m.events = append(m.events, event{kind, sets(partitions...)})
	}
	for _, p := range partitions {
		delete(m.owned, p)
	}
}

func (m *member) has() map[int32]bool {
	m.Lock()
	defer m.Unlock()
	s := map[int32]bool{}
	for p := range m.owned {
		s[p] = true
	}
	return s
}

func (m *member) read() []place {
	m.Lock()
	defer m.Unlock()
	return append([]place{}, m.got...)
}

func (m *member) seen() []event {
	m.Lock()
	defer m.Unlock()
	return append([]event{}, m.events...)
}

func (m *member) leave() {
	m.c.CloseAllowingRebalance()
	<-m.ended
}

func (m *member) fine() {
	m.Lock()
	defer m.Unlock()
	equal(0, len(m.errs), fmt.Sprintf("errors of a member: %v", m.errs))
}

// Everything is owned once, and everybody owns something.
func shared(partitions int, members ...*member) bool {
	all := 0
	together := map[int32]bool{}
	for _, m := range members {
		has := m.has()
		if len(has) == 0 {
			return false
		}
		all += len(has)
		for p := range has {
			together[p] = true
		}
	}
	return all == partitions && len(together) == partitions
}

func share(partitions int, members ...*member) {
	until(func() string {
		s := "the members share the partitions;"
		for _, m := range members {
			s += fmt.Sprintf(" %v after %v %v,", m.has(), m.seen(), m.errs)
		}
		return s
	}, func() bool { return shared(partitions, members...) })
}

func readAll(n int, members ...*member) []place {
	all := func() (all []place) {
		for _, m := range members {
			all = append(all, m.read()...)
		}
		return all
	}
	until(func() string { return fmt.Sprintf("%d records, but %d", n, len(all())) }, func() bool { return len(all()) >= n })
	return all()
}

func once(n int, all []place) {
	seen := map[string]int{}
	for _, r := range all {
		seen[r.value]++
	}
	for i := 0; i < n; i++ {
		equal(1, seen[fmt.Sprint(i)], fmt.Sprintf("how often %d was read", i))
	}
	equal(n, len(all), "records read")
}

// What the group committed, without its metadata (the client puts the member's id there).
func committed(ctx context.Context, a *kadm.Client, group, topic string) map[int32]int64 {
	found := map[int32]int64{}
	must1(a.FetchOffsets(ctx, group)).Each(func(o kadm.OffsetResponse) {
		must(o.Err, "fetch offsets")
		if o.Topic == topic && o.At >= 0 {
			found[o.Partition] = o.At
		}
	})
	return found
}

// Removes static members as an administrator does: the error of each. (kadm's own LeaveGroup shows the error of none.)
func remove(ctx context.Context, a *kgo.Client, group string, instances ...string) []error {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = group
	for i := range instances {
		m := kmsg.NewLeaveGroupRequestMember()
		m.InstanceID = &instances[i]
		req.Members = append(req.Members, m)
	}
	resp := must1(req.RequestWith(ctx, a))
	must(kerr.ErrorForCode(resp.ErrorCode), "leave")
	var errs []error
	for i, m := range resp.Members {
		equal(instances[i], *m.InstanceID, "instance")
		errs = append(errs, kerr.ErrorForCode(m.ErrorCode))
	}
	equal(len(instances), len(errs), "answers")
	return errs
}

func eager(ctx context.Context) {
	a := admin()
	defer a.Close()
	for name, balancer := range map[string]kgo.GroupBalancer{"range": kgo.RangeBalancer(), "roundrobin": kgo.RoundRobinBalancer()} {
		topic, group := create(ctx, a, "eager", 6), fresh("group")
		numbered(ctx, topic, 6, 0, 300)
		m := join(group, topic, kgo.Balancers(balancer))
		share(6, m)
		readAll(100, m)
		n := join(group, topic, kgo.Balancers(balancer))
		share(6, m, n)
		equal("3 3", fmt.Sprint(len(m.has()), len(n.has())), "partitions of each")
		equal(event{"revoked", sets(0, 1, 2, 3, 4, 5)}, m.seen()[1], "an eager member gives up all")
		d := must1(a.DescribeGroups(ctx, group))[group]
		equal([]any{"Stable", "consumer", name, 2}, []any{d.State, d.ProtocolType, d.Protocol, len(d.Members)}, "described")
		for _, dm := range d.Members {
			as, ok := dm.Assigned.AsConsumer()
			equal(true, ok, "an assignment of a consumer")
			equal(3, len(as.Topics[0].Partitions), "partitions described")
		}
		numbered(ctx, topic, 6, 300, 600)
		readAll(600, m, n)
		n.leave()
		share(6, m)
		numbered(ctx, topic, 6, 600, 660)
		all := readAll(660, m, n)
		m.leave()
		once(660, all)
		m.fine()
		n.fine()
		equal(map[int32]int64{0: 110, 1: 110, 2: 110, 3: 110, 4: 110, 5: 110}, committed(ctx, a, group, topic), "committed")
	}
}

func cooperative(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic, group := create(ctx, a, "cooperative", 6), fresh("group")
	sticky := kgo.Balancers(kgo.CooperativeStickyBalancer())
	numbered(ctx, topic, 6, 0, 300)
	m := join(group, topic, sticky)
	share(6, m)
	readAll(100, m)
	n := join(group, topic, sticky)
	share(6, m, n)
	equal("3 3", fmt.Sprint(len(m.has()), len(n.has())), "partitions of each")
	moved := map[int32]bool{}
	for _, e := range m.seen() {
		if e.kind == "revoked" {
			for p := range e.partitions {
				moved[p] = true
			}
		}
	}
	equal(n.has(), moved, "the first gave up only what the second got")
	o := join(group, topic, sticky)
	share(6, m, n, o)
	equal("2 2 2", fmt.Sprint(len(m.has()), len(n.has()), len(o.has())), "partitions of each")
	numbered(ctx, topic, 6, 300, 600)
	readAll(600, m, n, o)
	kept := n.has()
	m.leave()
	share(6, n, o)
	for p := range kept {
		equal(true, n.has()[p], fmt.Sprintf("sticky: partition %d", p))
	}
	numbered(ctx, topic, 6, 600, 660)
	all := readAll(660, m, n, o)
	n.leave()
	o.leave()
	once(660, all)
	for _, each := range []*member{m, n, o} {
		each.fine()
		for _, e := range each.seen() {
			equal(true, e.kind != "lost", "nothing is lost")
		}
	}
}

func static(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic, group := create(ctx, a, "static", 4), fresh("group")
	numbered(ctx, topic, 4, 0, 40)
	members := map[string]*member{}
	for _, name := range []string{"a", "b"} {
		members[name] = join(group, topic, kgo.InstanceID(name))
	}
	share(4, members["a"], members["b"])
	readAll(40, members["a"], members["b"])
	generation := func() (string, int) {
		d := must1(a.DescribeGroups(ctx, group))[group]
		var names []string
		for _, dm := range d.Members {
			names = append(names, *dm.InstanceID)
		}
		sort.Strings(names)
		return d.State + " " + strings.Join(names, " "), len(d.Members)
	}
	for _, name := range []string{"a", "b"} {
		// Either of them may be the leader.
		other := members[map[string]string{"a": "b", "b": "a"}[name]]
		had, before := members[name].has(), len(other.seen())
		members[name].leave()
		state, _ := generation()
		equal("Stable a b", state, "while one is away")
		members[name] = join(group, topic, kgo.InstanceID(name))
		until(func() string { return "the restarted one is back" }, func() bool { return len(members[name].has()) > 0 })
		equal(had, members[name].has(), "what the restarted one owns")
		// Rounds of heartbeats later the other one still knows of nothing.
		n := len(other.read())
		numbered(ctx, topic, 4, 100, 140)
		readAll(n+20, other)
		readAll(20, members[name])
		equal(before, len(other.seen()), fmt.Sprintf("what the other one saw: %v", other.seen()))
	}
	// A second one with the same name fences the first.
	second := join(group, topic, kgo.InstanceID("a"))
	until(func() string { return "the second has the place" }, func() bool {
		first := members["a"]
		first.Lock()
		defer first.Unlock()
		for _, err := range first.errs {
			if errors.Is(err, kerr.FencedInstanceID) {
				return len(second.has()) > 0
			}
		}
		return false
	})
	members["a"].leave()
	second.leave()
	// Removed by an administrator: the other one gets everything.
	c := client()
	defer c.Close()
	errs := remove(ctx, c, group, "a", "nobody")
	must(errs[0], "remove a")
	refused(kerr.UnknownMemberID, errs[1], "remove somebody who is not there")
	share(4, members["b"])
	members["b"].leave()
	must(remove(ctx, c, group, "b")[0], "remove b")
	state, n := generation()
	equal("Empty  0", fmt.Sprint(state, " ", n), "at the end")
}

func commits(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic, group := create(ctx, a, "commit", 3), fresh("group")
	numbered(ctx, topic, 3, 0, 30)
	m := join(group, topic)
	m.commits = false
	share(3, m)
	readAll(30, m)
	// With the leader epoch of each record, as the client keeps it.
	must(m.c.CommitRecords(ctx, &kgo.Record{Topic: topic, Partition: 0, Offset: 3, LeaderEpoch: 0}, &kgo.Record{Topic: topic, Partition: 1, Offset: 8, LeaderEpoch: 0}), "commit")
	equal(map[int32]int64{0: 4, 1: 9}, committed(ctx, a, group, topic), "committed")
	o, _ := must1(a.FetchOffsets(ctx, group)).Lookup(topic, 0)
	equal(0, o.LeaderEpoch, "leader epoch")
	// Nobody else commits for a live group.
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 1, LeaderEpoch: -1})
	r, err := a.CommitOffsets(ctx, group, offsets)
	if err == nil {
		err = r.Error()
	}
	refused(kerr.UnknownMemberID, err, "a stranger's commit")
	m.leave()
	until(func() string { return "the group is empty" }, func() bool { return must1(a.DescribeGroups(ctx, group))[group].State == "Empty" })
	offsets = kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 2, LeaderEpoch: -1, Metadata: "two ü"})
	offsets.Add(kadm.Offset{Topic: topic, Partition: 1, At: 7, LeaderEpoch: 0, Metadata: strings.Repeat("x", 4096)})
	offsets.Add(kadm.Offset{Topic: topic, Partition: 2, At: 5, LeaderEpoch: 0, Metadata: strings.Repeat("x", 4097)})
	r = must1(a.CommitOffsets(ctx, group, offsets))
	for p, wanted := range []error{nil, nil, kerr.OffsetMetadataTooLarge} {
		o, _ := r.Lookup(topic, int32(p))
		equal(wanted, o.Err, fmt.Sprintf("partition %d", p))
	}
	equal(map[int32]int64{0: 2, 1: 7}, committed(ctx, a, group, topic), "committed")
	r = must1(a.FetchOffsetsForTopics(ctx, group, topic))
	for p, wanted := range []string{"2 -1 two ü", "7 0 " + strings.Repeat("x", 4096), "-1 -1 "} {
		o, _ := r.Lookup(topic, int32(p))
		equal(wanted, fmt.Sprint(o.At, " ", o.LeaderEpoch, " ", o.Metadata), fmt.Sprintf("partition %d", p))
	}
	// A partition that is not there.
	offsets = kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 9, At: 2, LeaderEpoch: -1})
	r = must1(a.CommitOffsets(ctx, group, offsets))
	o, _ = r.Lookup(topic, 9)
	refused(kerr.UnknownTopicOrPartition, o.Err, "a partition that is not there")
	// The next one goes on there.
	n := join(group, topic)
	all := readAll(8+3+10, n)
	first := map[int32]int64{}
	for _, p := range all {
		if at, ok := first[p.partition]; !ok || p.offset < at {
			first[p.partition] = p.offset
		}
	}
	equal(map[int32]int64{0: 2, 1: 7, 2: 0}, first, "where the next one began")
	n.leave()
	n.fine()
}

func automatic(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic, group := create(ctx, a, "auto", 1), fresh("group")
	numbered(ctx, topic, 1, 0, 10)
	c := client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitInterval(100*time.Millisecond), kgo.HeartbeatInterval(100*time.Millisecond))
	poll := func(n int) (got []*kgo.Record) {
		until(func() string { return fmt.Sprintf("%d records", n) }, func() bool {
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			got = append(got, c.PollFetches(short).Records()...)
			return len(got) >= n
		})
		return got
	}
	poll(10)
	until(func() string { return "the commit at its interval" }, func() bool {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		c.PollFetches(short)
		return committed(ctx, a, group, topic)[0] == 10
	})
	c.Close()
	numbered(ctx, topic, 1, 10, 20)
	c = client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Hour), kgo.HeartbeatInterval(100*time.Millisecond))
	got := poll(10)
	equal([]int64{10, 19}, []int64{got[0].Offset, got[9].Offset}, "where it went on")
	c.MarkCommitRecords(got[4])
	must(c.CommitMarkedOffsets(ctx), "commit what is marked")
	c.Close()
	equal(15, committed(ctx, a, group, topic)[0], "committed: the marked one")
}

func groups(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic, group := create(ctx, a, "groups", 2), fresh("group")
	numbered(ctx, topic, 2, 0, 20)
	m := join(group, topic, kgo.ClientID("the client"))
	share(2, m)
	readAll(20, m)
	must(m.c.CommitRecords(ctx, &kgo.Record{Topic: topic, Partition: 0, Offset: 7}, &kgo.Record{Topic: topic, Partition: 1, Offset: 9}), "commit")
	listed := func(states ...string) string {
		g, ok := must1(a.ListGroups(ctx, states...))[group]
		return fmt.Sprint(ok, " ", g.ProtocolType, " ", g.State)
	}
	equal("true consumer Stable", listed(), "listed")
	equal("true consumer Stable", listed("Stable"), "listed by state")
	equal("false  ", listed("Empty"), "listed by another state")
	d := must1(a.DescribeGroups(ctx, group))[group]
	equal([]any{"Stable", "cooperative-sticky", 1, "the client", 1}, []any{d.State, d.Protocol, len(d.Members), d.Members[0].ClientID, d.Coordinator.NodeID}, "described")
	lag := must1(a.Lag(ctx, group))[group]
	must(lag.Error(), "lag")
	equal([]int64{2, 0, 2}, []int64{lag.Lag[topic][0].Lag, lag.Lag[topic][1].Lag, lag.Lag.Total()}, "lag")
	// What is alive is not deleted, and keeps its offsets.
	_, err := a.DeleteGroup(ctx, group)
	refused(kerr.NonEmptyGroup, err, "delete a live group")
	s := kadm.TopicsSet{}
	s.Add(topic, 0)
	deleted := must1(a.DeleteOffsets(ctx, group, s))
	err, _ = deleted.Lookup(topic, 0)
	refused(kerr.GroupSubscribedToTopic, err, "delete offsets of a live group")
	m.commits = false
	m.leave()
	until(func() string { return "it is empty" }, func() bool { return listed() == "true consumer Empty" })
	deleted = must1(a.DeleteOffsets(ctx, group, s))
	err, _ = deleted.Lookup(topic, 0)
	must(err, "delete an offset")
	equal(map[int32]int64{1: 10}, committed(ctx, a, group, topic), "what is left")
	many := a.FetchManyOffsets(ctx, group, group+"-nobody")
	must(many.Error(), "offsets of two groups")
	equal("1 0", fmt.Sprint(len(many[group].Fetched.Offsets()[topic]), len(many[group+"-nobody"].Fetched)), "offsets of two groups")
	where := a.FindGroupCoordinators(ctx, group, group+"-nobody")
	must(where.Error(), "coordinators")
	equal("1 1", fmt.Sprint(where[group].NodeID, where[group+"-nobody"].NodeID), "coordinators")
	results := must1(a.DeleteGroups(ctx, group, group+"-nobody"))
	must(results[group].Err, "delete it")
	refused(kerr.GroupIDNotFound, results[group+"-nobody"].Err, "delete one that is not there")
	equal("false  ", listed(), "deleted")
	equal(map[int32]int64{}, committed(ctx, a, group, topic), "offsets of a deleted group")
	// A group of offsets only.
	simple := fresh("simple")
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 1, At: 4, LeaderEpoch: -1})
	must(a.CommitAllOffsets(ctx, simple, offsets), "commit without a member")
	g := must1(a.ListGroups(ctx))[simple]
	equal("Empty", g.State, "a group of offsets only")
	equal("", g.ProtocolType, "its protocol type")
}
