// franz-go and its admin package kadm against the broker named by the first argument: one line a test, exit code 1 when one failed.
// Further arguments pick tests by a part of their names.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// No wait is longer, and none is expected to come near.
const patience = 45 * time.Second

var (
	broker string
	run    = fmt.Sprintf("%x%x", os.Getpid(), time.Now().UnixMilli()&0xffffff)
	count  atomic.Int64
	tests  = []struct {
		name string
		f    func(context.Context)
	}{
		{"a topic is deleted and made again under a plain consumer", recreatedUnderConsumer},
		{"eager rebalances, range and round robin", eager},
		{"cooperative rebalances", cooperative},
		{"static members come back unnoticed, and are removed", static},
		{"round trips in every codec", codecs},
		{"commits, with metadata and epochs", commits},
		{"automatic commits", automatic},
		{"resets", resets},
		{"seeks and pauses", seeks},
		{"groups are listed, described, moved and deleted", groups},
		{"topics are created, described, grown, configured and deleted", topics},
		{"the cluster, log directories, offsets, epochs, deleted records", cluster},
		{"a topic is deleted and made again under a group", recreatedUnderGroup},
		{"a pattern takes up what comes later", patterns},
	}
)

func main() {
	broker = os.Args[1]
	var wait sync.WaitGroup
	var print sync.Mutex
	var passed, failed int
	slots := make(chan bool, 4)
	for _, t := range tests {
		if len(os.Args) > 2 && !picked(t.name) {
			continue
		}
		wait.Add(1)
		slots <- true
		go func(name string, f func(context.Context)) {
			defer wait.Done()
			began := time.Now()
			err := outcome(f)
			<-slots
			print.Lock()
			defer print.Unlock()
			if err == nil {
				passed++
				fmt.Printf("ok      franz-go: %s (%d ms)\n", name, time.Since(began).Milliseconds())
			} else {
				failed++
				fmt.Printf("FAILED  franz-go: %s: %v\n", name, strings.Join(strings.Fields(err.Error()), " "))
			}
		}(t.name, t.f)
	}
	wait.Wait()
	fmt.Printf("%d passed, %d failed\n", passed, failed)
	if failed > 0 {
		os.Exit(1)
	}
}

func picked(name string) bool {
	for _, part := range os.Args[2:] {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}

// A test ends where it fails.
type failure struct{ error }

func outcome(f func(context.Context)) (err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*patience)
	defer cancel()
	defer func() {
		switch r := recover().(type) {
		case nil:
		case failure:
			err = r.error
		default:
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	f(ctx)
	return nil
}

func fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

func must(err error, what string) {
	if err != nil {
		fail("%s: %v", what, err)
	}
}

func must1[T any](v T, err error) T {
	must(err, fmt.Sprintf("%T", v))
	return v
}

// By what they print: maps print sorted.
func equal(wanted, found any, what string) {
	if w, f := fmt.Sprintf("%+v", wanted), fmt.Sprintf("%+v", found); w != f {
		fail("%s: wanted %s, found %s", what, w, f)
	}
}

func refused(wanted *kerr.Error, err error, what string) {
	if !errors.Is(err, wanted) {
		fail("%s: wanted %s, found %v", what, wanted.Message, err)
	}
}

func until(what func() string, f func() bool) {
	for deadline := time.Now().Add(patience); !f(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			fail("never: %s", what())
		}
	}
}

func fresh(kind string) string { return fmt.Sprintf("go-%s-%s-%d", kind, run, count.Add(1)) }

func client(opts ...kgo.Opt) *kgo.Client {
	base := []kgo.Opt{
		kgo.SeedBrokers(broker),
		kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.MetadataMinAge(50 * time.Millisecond),
		kgo.MetadataMaxAge(500 * time.Millisecond),
		kgo.ConsiderMissingTopicDeletedAfter(time.Second),
	}
	return must1(kgo.NewClient(append(base, opts...)...))
}

func admin() *kadm.Client { return kadm.NewClient(client()) }

func create(ctx context.Context, a *kadm.Client, kind string, partitions int32) string {
	name := fresh(kind)
	r := must1(a.CreateTopic(ctx, partitions, 1, nil, name))
	must(r.Err, "create "+name)
	return name
}

// Writes the numbers from (inclusive) to (exclusive) in turn to the partitions.
func numbered(ctx context.Context, topic string, partitions, from, to int) {
	c := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer c.Close()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		records = append(records, &kgo.Record{Topic: topic, Partition: int32(i % partitions), Value: []byte(fmt.Sprint(i))})
	}
	must(c.ProduceSync(ctx, records...).FirstErr(), "produce")
}

func sets(partitions ...int32) map[int32]bool {
	s := map[int32]bool{}
	for _, p := range partitions {
		s[p] = true
	}
	return s
}
