package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"sort"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func codecs(ctx context.Context) {
	a := admin()
	defer a.Close()
	for name, codec := range map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()} {
		topic := create(ctx, a, name, 3)
		c := client(kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codec))
		var records []*kgo.Record
		for i := 0; i < 300; i++ {
			r := &kgo.Record{Topic: topic, Partition: int32(i % 3), Headers: []kgo.RecordHeader{{Key: "n", Value: []byte(fmt.Sprint(i))}, {Key: "null"}, {Key: "n", Value: []byte("twice")}}}
			if i%7 != 0 {
				r.Key = []byte(fmt.Sprintf("key %d", i))
			}
			if i%11 != 0 {
				r.Value = []byte(strings.Repeat(fmt.Sprintf("value %d ", i), i%50+1))
			}
			records = append(records, r)
		}
		must(c.ProduceSync(ctx, records...).FirstErr(), name)
		c.Close()
		c = client(kgo.ConsumeTopics(topic))
		got := map[string]*kgo.Record{}
		until(func() string { return fmt.Sprintf("%d of 300 records of %s", len(got), name) }, func() bool {
			short, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			c.PollFetches(short).EachRecord(func(r *kgo.Record) { got[fmt.Sprint(r.Partition, " ", r.Offset)] = r })
			return len(got) == 300
		})
		c.Close()
		text := func(b []byte) string {
			if b == nil {
				return "null"
			}
			return fmt.Sprintf("%q", b)
		}
		for i, r := range records {
			equal(i/3, r.Offset, "offset")
			g := got[fmt.Sprint(r.Partition, " ", r.Offset)]
			equal(text(r.Key)+text(r.Value), text(g.Key)+text(g.Value), fmt.Sprintf("%s: record %d", name, i))
			for h := range r.Headers {
				equal(r.Headers[h].Key+text(r.Headers[h].Value), g.Headers[h].Key+text(g.Headers[h].Value), "header")
			}
			equal(r.Timestamp.UnixMilli(), g.Timestamp.UnixMilli(), "timestamp")
		}
	}
}

// The offset of the first record that a consumer of one partition reads.
func first(ctx context.Context, opts ...kgo.Opt) (int64, error) {
	c := client(opts...)
	defer c.Close()
	for {
		fetches := c.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return -1, err
		}
		if r := fetches.Records(); len(r) > 0 {
			return r[0].Offset, nil
		}
	}
}

func resets(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic := create(ctx, a, "reset", 1)
	numbered(ctx, topic, 1, 0, 20)
	offsets := kadm.Offsets{}
	offsets.Add(kadm.Offset{Topic: topic, Partition: 0, At: 5, LeaderEpoch: -1})
	deleted, _ := must1(a.DeleteRecords(ctx, offsets)).Lookup(topic, 0)
	must(deleted.Err, "delete records")
	equal(5, deleted.LowWatermark, "low watermark")
	for _, t := range []struct {
		what      string
		committed int64
		reset     kgo.Offset
		wanted    int64
	}{
		{"earliest without a commit", -1, kgo.NewOffset().AtStart(), 5},
		{"earliest, committed below the start", 2, kgo.NewOffset().AtStart(), 5},
		{"earliest, committed above the end", 50, kgo.NewOffset().AtStart(), 5},
		{"latest, committed in between", 12, kgo.NewOffset().AtEnd(), 12},
		{"three before the end", -1, kgo.NewOffset().AtEnd().Relative(-3), 17},
		{"no reset", 2, kgo.NoResetOffset(), -1},
	} {
		group := fresh("group")
		if t.committed >= 0 {
			o := kadm.Offsets{}
			o.Add(kadm.Offset{Topic: topic, Partition: 0, At: t.committed, LeaderEpoch: -1})
			must(a.CommitAllOffsets(ctx, group, o), "commit")
		}
		found, err := first(ctx, kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(t.reset), kgo.DisableAutoCommit())
		if t.wanted < 0 {
			refused(kerr.OffsetOutOfRange, err, t.what)
			continue
		}
		must(err, t.what)
		equal(t.wanted, found, t.what)
	}
	// Latest: only what comes after.
	c := client(kgo.ConsumerGroup(fresh("group")), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtEnd()), kgo.DisableAutoCommit())
	defer c.Close()
	var got []*kgo.Record
	next := 20
	until(func() string { return "a record that came after" }, func() bool {
		numbered(ctx, topic, 1, next, next+1)
		next++
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		got = append(got, c.PollFetches(short).Records()...)
		return len(got) > 0
	})
	equal(true, got[0].Offset >= 20, "latest begins behind what was there")
	equal(fmt.Sprint(got[0].Offset), string(got[0].Value), "its value")
}

func seeks(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic, group := create(ctx, a, "seek", 2), fresh("group")
	start := time.Now().UnixMilli() - 1_000_000
	p := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := 0; i < 200; i++ {
		must(p.ProduceSync(ctx, &kgo.Record{Topic: topic, Partition: int32(i % 2), Value: []byte(fmt.Sprint(i)), Timestamp: time.UnixMilli(start + int64(i)*1000)}).FirstErr(), "produce")
	}
	p.Close()
	m := join(group, topic)
	share(2, m)
	readAll(200, m)
	clear := func() {
		m.Lock()
		defer m.Unlock()
		m.got = nil
	}
	clear()
	m.c.PauseFetchPartitions(map[string][]int32{topic: {0}})
	equal(map[string][]int32{topic: {0}}, m.c.PauseFetchPartitions(nil), "paused")
	numbered(ctx, topic, 2, 200, 210)
	for i, r := range readAll(5, m) {
		equal(place{1, int64(100 + i), fmt.Sprint(201 + 2*i)}, r, "while one is paused")
	}
	clear()
	m.c.ResumeFetchPartitions(map[string][]int32{topic: {0}})
	for i, r := range readAll(5, m) {
		equal(place{0, int64(100 + i), fmt.Sprint(200 + 2*i)}, r, "when resumed")
	}
	clear()
	m.c.SetOffsets(map[string]map[int32]kgo.EpochOffset{topic: {0: {Epoch: -1, Offset: 41}}})
	for i, r := range readAll(64, m) {
		equal(place{0, int64(41 + i), fmt.Sprint(82 + 2*i)}, r, "from the place sought")
	}
	m.leave()
	m.fine()
	found, err := first(ctx, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AfterMilli(start + 41_500)}}))
	must(err, "by time")
	equal(21, found, "by time")
	for at, wanted := range map[int64]string{start - 5: "0 0", start + 41_500: "21 21", start + 750_000_000: "105 105"} {
		l := must1(a.ListOffsetsAfterMilli(ctx, at, topic))
		must(l.Error(), "by time")
		equal(wanted, fmt.Sprint(l[topic][0].Offset, " ", l[topic][1].Offset), fmt.Sprintf("at %d", at-start))
	}
}

func topics(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic := fresh("topics")
	value := "3600000"
	r := must1(a.CreateTopic(ctx, 2, 1, map[string]*string{"retention.ms": &value}, topic))
	equal([]any{2, 1, value}, []any{r.NumPartitions, r.ReplicationFactor, *r.Configs["retention.ms"].Value}, "created")
	equal(false, r.ID == kadm.TopicID{}, "no id")
	_, err := a.CreateTopic(ctx, 2, 1, nil, topic)
	refused(kerr.TopicAlreadyExists, err, "created again")
	_, err = a.CreateTopic(ctx, 2, 1, nil, "no name!")
	refused(kerr.InvalidTopicException, err, "a bad name")
	_, err = a.CreateTopic(ctx, 0, 1, nil, topic+"x")
	refused(kerr.InvalidPartitions, err, "no partitions")
	must(must1(a.ValidateCreateTopics(ctx, 1, 1, nil, topic+"x")).Error(), "a dry run")
	listed := must1(a.ListTopics(ctx, topic, topic+"x"))
	refused(kerr.UnknownTopicOrPartition, listed[topic+"x"].Err, "one that is not there")
	equal([]any{[]int32{0, 1}, r.ID, 1, []int32{1}}, []any{listed[topic].Partitions.Numbers(), listed[topic].ID, listed[topic].Partitions[1].Leader, listed[topic].Partitions[1].ISR}, "listed")
	must(must1(a.UpdatePartitions(ctx, 3, topic)).Error(), "three partitions")
	partitions := func(n int) {
		until(func() string { return fmt.Sprintf("%d partitions", n) }, func() bool { return len(must1(a.ListTopics(ctx, topic))[topic].Partitions) == n })
	}
	partitions(3)
	must(must1(a.CreatePartitions(ctx, 1, topic)).Error(), "one more")
	partitions(4)
	refused(kerr.InvalidPartitions, must1(a.UpdatePartitions(ctx, 3, topic))[topic].Err, "fewer")
	config := func(name string) string {
		rc := must1(must1(a.DescribeTopicConfigs(ctx, topic)).On(topic, nil))
		must(rc.Err, "configs")
		for _, c := range rc.Configs {
			if c.Key == name {
				return c.MaybeValue() + " " + c.Source.String()
			}
		}
		return "none"
	}
	equal("3600000 DYNAMIC_TOPIC_CONFIG", config("retention.ms"), "retention.ms")
	equal("-1 DEFAULT_CONFIG", config("retention.bytes"), "retention.bytes")
	size, compact := "70000", "compact"
	must(must1(a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "max.message.bytes", Value: &size}, {Op: kadm.DeleteConfig, Name: "retention.ms"}, {Op: kadm.AppendConfig, Name: "cleanup.policy", Value: &compact}}, topic))[0].Err, "alter")
	equal("70000 DYNAMIC_TOPIC_CONFIG|604800000 DEFAULT_CONFIG|delete,compact DYNAMIC_TOPIC_CONFIG", strings.Join([]string{config("max.message.bytes"), config("retention.ms"), config("cleanup.policy")}, "|"), "altered")
	must(must1(a.AlterTopicConfigsState(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &value}}, topic))[0].Err, "set the whole state")
	equal("3600000 DYNAMIC_TOPIC_CONFIG|1048588 DEFAULT_CONFIG", config("retention.ms")+"|"+config("max.message.bytes"), "the whole state")
	bad := "soon"
	refused(kerr.InvalidConfig, must1(a.AlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "retention.ms", Value: &bad}}, topic))[0].Err, "a bad value")
	refused(kerr.InvalidConfig, must1(a.ValidateAlterTopicConfigs(ctx, []kadm.AlterConfig{{Name: "no.such", Value: &bad}}, topic))[0].Err, "a bad name")
	must(must1(a.DeleteTopics(ctx, topic)).Error(), "delete")
	until(func() string { return "it is gone" }, func() bool { return !must1(a.ListTopics(ctx)).Has(topic) })
	_, err = a.DeleteTopic(ctx, topic)
	refused(kerr.UnknownTopicOrPartition, err, "deleted again")
}

func cluster(ctx context.Context) {
	a := admin()
	defer a.Close()
	meta := must1(a.BrokerMetadata(ctx))
	equal("1 [1]", fmt.Sprint(meta.Controller, meta.Brokers.NodeIDs()), "controller and brokers")
	equal(false, meta.Cluster == "", "no cluster id")
	rc := must1(must1(a.DescribeBrokerConfigs(ctx, 1)).On("1", nil))
	must(rc.Err, "configs of a broker")
	found := map[string]bool{}
	for _, c := range rc.Configs {
		found[c.Key] = true
	}
	for _, name := range []string{"log.retention.ms", "message.max.bytes", "num.partitions", "group.max.session.timeout.ms", "offset.metadata.max.bytes"} {
		equal(true, found[name], "config "+name)
	}
	topic := create(ctx, a, "cluster", 2)
	numbered(ctx, topic, 2, 0, 20)
	var dirs kadm.DescribedAllLogDirs = must1(a.DescribeAllLogDirs(ctx, nil))
	size := int64(0)
	dirs.Each(func(d kadm.DescribedLogDir) {
		must(d.Err, "log directory")
		for p := int32(0); p < 2; p++ {
			if t, ok := d.Topics.Lookup(topic, p); ok {
				size += t.Size
			}
		}
	})
	equal(true, size > 100 && size < 10_000, fmt.Sprintf("%d bytes", size))
	ends := func() string {
		return fmt.Sprint(must1(a.ListStartOffsets(ctx, topic))[topic][0].Offset, " ", must1(a.ListEndOffsets(ctx, topic))[topic][0].Offset, " ", must1(a.ListCommittedOffsets(ctx, topic))[topic][0].Offset)
	}
	equal("0 10 10", ends(), "start, end, last stable")
	o := kadm.Offsets{}
	o.Add(kadm.Offset{Topic: topic, Partition: 0, At: 4, LeaderEpoch: -1})
	o.Add(kadm.Offset{Topic: topic, Partition: 1, At: 11, LeaderEpoch: -1})
	r := must1(a.DeleteRecords(ctx, o))
	d, _ := r.Lookup(topic, 0)
	must(d.Err, "delete")
	d, _ = r.Lookup(topic, 1)
	refused(kerr.OffsetOutOfRange, d.Err, "past the end")
	equal("4 10 10", ends(), "start, end, last stable")
	var ask kadm.OffsetForLeaderEpochRequest
	ask.Add(topic, 0, 0)
	epochs := must1(a.OffetForLeaderEpoch(ctx, ask))
	e := epochs[topic][0]
	must(e.Err, "epoch")
	equal("0 10", fmt.Sprint(e.LeaderEpoch, " ", e.EndOffset), "end of the epoch")
}

func recreatedUnderGroup(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic, group := create(ctx, a, "again", 3), fresh("group")
	numbered(ctx, topic, 3, 0, 30)
	m := join(group, topic)
	share(3, m)
	readAll(30, m)
	m.Lock()
	m.commits = false
	m.Unlock()
	must(m.c.CommitUncommittedOffsets(ctx), "commit")
	id := must1(a.ListTopics(ctx, topic))[topic].ID
	must(must1(a.DeleteTopics(ctx, topic)).Error(), "delete")
	until(func() string { return "its offsets are gone" }, func() bool { return len(committed(ctx, a, group, topic)) == 0 })
	until(func() string { return "the name is free" }, func() bool { _, err := a.CreateTopic(ctx, 2, 1, nil, topic); return err == nil })
	equal(false, id == must1(a.ListTopics(ctx, topic))[topic].ID, "the same id again")
	m.leave()
	// What is new is read from its beginning, by the same group.
	numbered(ctx, topic, 2, 1000, 1010)
	n := join(group, topic)
	share(2, n)
	all := readAll(10, n)
	sort.Slice(all, func(i, j int) bool { return all[i].value < all[j].value })
	for i, r := range all {
		equal(place{int32(i % 2), int64(i / 2), fmt.Sprint(1000 + i)}, r, "of the second topic")
	}
	n.leave()
	n.fine()
	equal(map[int32]int64{0: 5, 1: 5}, committed(ctx, a, group, topic), "committed")
}

func recreatedUnderConsumer(ctx context.Context) {
	a := admin()
	defer a.Close()
	topic := create(ctx, a, "again", 1)
	numbered(ctx, topic, 1, 0, 10)
	c := client(kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	defer c.Close()
	var got []place
	told := false
	poll := func() {
		short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
		defer cancel()
		f := c.PollFetches(short)
		f.EachRecord(func(r *kgo.Record) { got = append(got, place{r.Partition, r.Offset, string(r.Value)}) })
		f.EachError(func(_ string, _ int32, err error) {
			told = told || errors.Is(err, kerr.UnknownTopicID) || errors.Is(err, kerr.UnknownTopicOrPartition)
		})
	}
	until(func() string { return "the first topic" }, func() bool { poll(); return len(got) == 10 })
	must(must1(a.DeleteTopics(ctx, topic)).Error(), "delete")
	until(func() string { return "the consumer is told" }, func() bool { poll(); return told })
	until(func() string { return "the name is free" }, func() bool { _, err := a.CreateTopic(ctx, 1, 1, nil, topic); return err == nil })
	numbered(ctx, topic, 1, 1000, 1010)
	// This client keeps to the id that it knows until the topic is taken away and given again.
	c.PurgeTopicsFromClient(topic)
	got = nil
	c.AddConsumeTopics(topic)
	until(func() string { return fmt.Sprintf("the second topic: %v", got) }, func() bool { poll(); return len(got) >= 10 })
	for i, r := range got {
		equal(place{0, int64(i), fmt.Sprint(1000 + i)}, r, "of the second topic")
	}
}

func patterns(ctx context.Context) {
	a := admin()
	defer a.Close()
	stem := fresh("pattern")
	must1(a.CreateTopic(ctx, 1, 1, nil, stem+".a"))
	c := client(kgo.ConsumerGroup(fresh("group")), kgo.ConsumeRegex(), kgo.ConsumeTopics("^"+regexp.QuoteMeta(stem)+`\..*`), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.HeartbeatInterval(100*time.Millisecond))
	defer c.Close()
	got := map[string]bool{}
	read := func(wanted string) {
		until(func() string { return fmt.Sprintf("%s, but %v", wanted, got) }, func() bool {
			short, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			defer cancel()
			c.PollFetches(short).EachRecord(func(r *kgo.Record) {
				got[fmt.Sprintf("%s %d %s", strings.TrimPrefix(r.Topic, stem), r.Partition, r.Value)] = true
			})
			return got[wanted]
		})
	}
	numbered(ctx, stem+".a", 1, 1, 2)
	read(".a 0 1")
	must1(a.CreateTopic(ctx, 1, 1, nil, stem+".b"))
	numbered(ctx, stem+".b", 1, 2, 3)
	read(".b 0 2")
	must(must1(a.UpdatePartitions(ctx, 2, stem+".a")).Error(), "grow")
	until(func() string { return "two partitions" }, func() bool { return len(must1(a.ListTopics(ctx, stem+".a"))[stem+".a"].Partitions) == 2 })
	numbered(ctx, stem+".a", 2, 3, 4)
	read(".a 1 3")
	equal(3, len(got), "records")
}
