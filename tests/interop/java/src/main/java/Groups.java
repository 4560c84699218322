import java.time.Duration;
import java.util.*;
import java.util.concurrent.*;
import java.util.regex.Pattern;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.*;

/** Classic consumer groups of kafka-clients: rebalances of every kind, commits, seeks and pauses. */
final class Groups extends Harness {
  private static final String RANGE = RangeAssignor.class.getName(), ROUND_ROBIN = RoundRobinAssignor.class.getName(), STICKY = CooperativeStickyAssignor.class.getName();

  static void tests() {
    // It mostly waits.
    Running gone = begin("groups: a member that says nothing, and one that does not poll, lose their share", Groups::gone);
    test("groups: range shares a topic; members come and go, nothing is read twice", Groups::range);
    test("groups: round robin over two topics", Groups::roundRobin);
    test("groups: members agree on the assignor that all know", Groups::commonAssignor);
    test("groups: cooperative members give up only what moves", Groups::cooperative);
    test("groups: a static member is back with what it had, without a rebalance", Groups::staticMembers);
    test("groups: the older of two static members of one name is fenced", Groups::staticFenced);
    test("groups: commits, sync and async, with metadata and leader epoch", Groups::commits);
    test("groups: commits that must be refused", Groups::commitsRefused);
    test("groups: members that must be refused", Groups::joinsRefused);
    test("groups: automatic commits", Groups::automaticCommits);
    test("groups: without a membership, offsets are kept too", Groups::simple);
    test("groups: seek and pause within a group", Groups::seekAndPause);
    test("groups: where to start without an offset", Groups::resets);
    test("groups: topics that match, also new ones, and new partitions", Groups::pattern);
    test("groups: a topic deleted and made again under its readers", Groups::recreated);
    test("groups: a rebalance on demand", Groups::enforced);
    test("groups: twenty members, and one more", Groups::many);
    gone.finish();
  }

  private static Member member(String group, String topic, Object... settings) {
    return new Member(group, List.of(topic), settings);
  }

  private static void commit(Member... members) throws Exception {
    for (Member m : members) {
      m.ask(c -> {
        c.commitSync();
        return null;
      });
    }
  }

  private static void range() throws Exception {
    String topic = create("group-range", 6), group = topic;
    Object[] range = {"partition.assignment.strategy", RANGE, "enable.auto.commit", false};
    try (Member a = member(group, topic, range)) {
      Member.stable(topic, 6, new int[] {6}, a);
      try (Member b = member(group, topic, range); Member c = member(group, topic, range)) {
        Member.stable(topic, 6, new int[] {2, 2, 2}, a, b, c);
        for (Member m : List.of(a, b, c)) {
          int[] at = m.owned.stream().mapToInt(TopicPartition::partition).sorted().toArray();
          check(at[1] == at[0] + 1 && at[0] % 2 == 0, "not a range: " + m.owned);
        }
        fill(topic, 6, 20);
        Member.haveRead(120, a, b, c);
        commit(a, b, c);
        int before = a.generation();
        c.close();
        Member.stable(topic, 6, new int[] {3, 3}, a, b);
        check(a.generation() > before, "the generation did not rise");
        fill(topic, 6, 10);
        Member.haveRead(180, a, b, c);
        commit(a, b);
      }
      Member.stable(topic, 6, new int[] {6}, a);
      int before = a.read.size();
      fill(topic, 6, 10);
      Member.haveRead(before + 60, a);
    }
  }

  private static void roundRobin() throws Exception {
    String one = create("group-robin-1", 3), two = create("group-robin-2", 3), group = one;
    Object[] robin = {"partition.assignment.strategy", ROUND_ROBIN};
    try (Member a = new Member(group, List.of(one, two), robin); Member b = new Member(group, List.of(one, two), robin)) {
      eventually(List.of(3, 3), "six partitions of two topics, in turn", () -> {
        Set<TopicPartition> all = new HashSet<>(a.owned);
        all.addAll(b.owned);
        return all.size() == 6 ? List.of(a.owned.size(), b.owned.size()) : List.of();
      });
      try (Member c = new Member(group, List.of(two), robin)) {
        // Only what it asked for goes to it.
        eventually(true, "the third takes part", () -> !c.owned.isEmpty() && a.owned.size() + b.owned.size() + c.owned.size() == 6);
        check(c.owned.stream().allMatch(p -> p.topic().equals(two)), "more than it asked for: " + c.owned);
      }
    }
  }

  private static void commonAssignor() throws Exception {
    String topic = create("group-common", 4), group = topic;
    try (Member a = member(group, topic, "partition.assignment.strategy", RANGE + "," + ROUND_ROBIN); Admin admin = admin()) {
      Member.stable(topic, 4, new int[] {4}, a);
      equal("range", admin.describeConsumerGroups(List.of(group)).all().get().get(group).partitionAssignor(), "assignor of one");
      try (Member b = member(group, topic, "partition.assignment.strategy", ROUND_ROBIN)) {
        Member.stable(topic, 4, new int[] {2, 2}, a, b);
        equal("roundrobin", admin.describeConsumerGroups(List.of(group)).all().get().get(group).partitionAssignor(), "assignor of both");
        try (Member c = member(group, topic, "partition.assignment.strategy", RANGE)) {
          eventually(InconsistentGroupProtocolException.class, "one that shares no assignor is refused", () -> c.failure.getClass());
        }
        Member.stable(topic, 4, new int[] {2, 2}, a, b);
      }
    }
  }

  private static void cooperative() throws Exception {
    String topic = create("group-sticky", 6), group = topic;
    Object[] sticky = {"partition.assignment.strategy", STICKY};
    try (Member a = member(group, topic, sticky)) {
      Member.stable(topic, 6, new int[] {6}, a);
      try (Member b = member(group, topic, sticky)) {
        Member.stable(topic, 6, new int[] {3, 3}, a, b);
        equal(3, a.taken.size(), "given up by the first");
        equal(6, a.given.size(), "what stayed was not given again");
        equal(new HashSet<>(a.taken), Set.copyOf(b.owned), "what moved");
        equal(List.of(), b.taken, "given up by the second");
        fill(topic, 6, 10);
        Member.haveRead(60, a, b);
        try (Member c = member(group, topic, sticky)) {
          Member.stable(topic, 6, new int[] {2, 2, 2}, a, b, c);
          equal(4, a.taken.size(), "given up by the first, at last");
          equal(1, b.taken.size(), "given up by the second, at last");
        }
        Member.stable(topic, 6, new int[] {3, 3}, a, b);
        equal(4, a.taken.size(), "nothing more is given up when one leaves");
        equal(List.of(), a.lost, "nothing is lost");
      }
    }
  }

  private static void staticMembers() throws Exception {
    String topic = create("group-static", 4), group = topic;
    Member a = member(group, topic, "group.instance.id", "one");
    try (Member b = member(group, topic, "group.instance.id", "two")) {
      Member.stable(topic, 4, new int[] {2, 2}, a, b);
      Set<TopicPartition> had = Set.copyOf(a.owned);
      String id = a.id();
      int generation = b.generation(), given = b.given.size();
      a.close();
      try (Member again = member(group, topic, "group.instance.id", "one")) {
        eventually(had, "what it had", () -> Set.copyOf(again.owned));
        equal(generation, again.generation(), "generation of the one that is back");
        check(!again.id().equals(id), "a new member id");
        equal(generation, b.generation(), "generation of the other");
        equal(given, b.given.size(), "the other saw nothing");
        fill(topic, 4, 10);
        Member.haveRead(40, again, b);
        try (Admin admin = admin()) {
          Set<String> names = new TreeSet<>();
          for (MemberDescription m : admin.describeConsumerGroups(List.of(group)).all().get().get(group).members()) names.add(m.groupInstanceId().orElse("-"));
          equal(Set.of("one", "two"), names, "instance ids described");
        }
      }
    }
    // Both are gone and still members: removed by an administrator.
    try (Admin admin = admin()) {
      equal(2, admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size(), "static members stay");
      admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("one"), new MemberToRemove("two")))).all().get();
      eventually(GroupState.EMPTY, "state when they were removed", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState());
    }
  }

  private static void staticFenced() throws Exception {
    String topic = create("group-fenced", 2), group = topic;
    try (Member a = member(group, topic, "group.instance.id", "same")) {
      Member.stable(topic, 2, new int[] {2}, a);
      try (Member b = member(group, topic, "group.instance.id", "same")) {
        eventually(2, "the newer has it all", () -> b.owned.size());
        eventually(FencedInstanceIdException.class, "the older is fenced", () -> a.failure.getClass());
        equal(null, b.failure, "the newer goes on");
      }
    }
    try (Admin admin = admin()) {
      admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
    }
  }

  private static void gone() throws Exception {
    String topic = create("group-gone", 6), group = topic;
    try (Member a = member(group, topic, "session.timeout.ms", 6000);
        Member silent = member(group, topic, "session.timeout.ms", 6000);
        Member still = member(group, topic, "max.poll.interval.ms", 3000)) {
      Member.stable(topic, 6, new int[] {2, 2, 2}, a, silent, still);
      silent.vanish();
      Member.stable(topic, 6, new int[] {3, 3}, a, still);
      still.stopPolling();
      Member.stable(topic, 6, new int[] {6}, a);
      equal(null, a.failure, "the first goes on");
    }
    try (Admin admin = admin()) {
      eventually(GroupState.EMPTY, "state of the group", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).groupState());
    }
  }

  private static void commits() throws Exception {
    String topic = create("group-commits", 3), group = topic;
    fill(topic, 3, 10);
    Set<TopicPartition> all = Set.copyOf(partitions(topic, 3));
    try (Member a = member(group, topic, "isolation.level", "read_committed")) {
      Member.haveRead(30, a);
      equal(Map.of(), a.ask(c -> known(c.committed(all))), "before");
      a.ask(c -> {
        c.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(4, Optional.of(0), "half way: ü"), tp(topic, 1), new OffsetAndMetadata(7)));
        return null;
      });
      equal(Map.of(tp(topic, 0), new OffsetAndMetadata(4, Optional.of(0), "half way: ü"), tp(topic, 1), new OffsetAndMetadata(7)), a.ask(c -> known(c.committed(all))), "after");
      CompletableFuture<Map<TopicPartition, OffsetAndMetadata>> told = new CompletableFuture<>();
      Map<TopicPartition, OffsetAndMetadata> wanted = Map.of(tp(topic, 2), new OffsetAndMetadata(9, Optional.empty(), "x".repeat(4096)));
      a.ask(c -> {
        c.commitAsync(wanted, (offsets, e) -> {
          if (e != null) told.completeExceptionally(e);
          else told.complete(offsets);
        });
        return null;
      });
      equal(wanted, told.get(60, TimeUnit.SECONDS), "told of the commit");
      // Many at once: the last word counts.
      List<CompletableFuture<Void>> answers = new ArrayList<>();
      a.ask(c -> {
        for (int i = 0; i < 200; i++) {
          CompletableFuture<Void> answer = new CompletableFuture<>();
          answers.add(answer);
          c.commitAsync(Map.of(tp(topic, 1), new OffsetAndMetadata(i % 10)), (offsets, e) -> {
            if (e != null) answer.completeExceptionally(e);
            else answer.complete(null);
          });
        }
        return null;
      });
      CompletableFuture.allOf(answers.toArray(new CompletableFuture[0])).get(60, TimeUnit.SECONDS);
      equal(9L, a.ask(c -> c.committed(all).get(tp(topic, 1)).offset()), "the last of many");
    }
    // The next member goes on from there.
    try (Member b = member(group, topic)) {
      Member.haveRead(6 + 1 + 1, b);
      Map<Integer, Long> first = new TreeMap<>();
      for (ConsumerRecord<byte[], byte[]> r : b.read) first.putIfAbsent(r.partition(), r.offset());
      equal(Map.of(0, 4L, 1, 9L, 2, 9L), first, "first offsets");
      commit(b);
      equal(10L, b.ask(c -> c.committed(all).get(tp(topic, 0)).offset()), "position committed");
    }
  }

  /** Only the partitions that have an offset. */
  private static Map<TopicPartition, OffsetAndMetadata> known(Map<TopicPartition, OffsetAndMetadata> committed) {
    Map<TopicPartition, OffsetAndMetadata> found = new HashMap<>();
    committed.forEach((p, o) -> {
      if (o != null) found.put(p, o);
    });
    return found;
  }

  private static void commitsRefused() throws Exception {
    String topic = create("group-refused", 2), group = topic;
    try (Member a = member(group, topic); Admin admin = admin()) {
      Member.stable(topic, 2, new int[] {2}, a);
      thrown(OffsetMetadataTooLarge.class, "metadata of 4097 bytes", () -> a.ask(c -> {
        c.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(1, "x".repeat(4097))));
        return null;
      }));
      equal(Map.of(), a.ask(c -> known(c.committed(Set.of(tp(topic, 0))))), "nothing was kept");
      // Somebody outside of the group may not commit while it lives.
      try (KafkaConsumer<byte[], byte[]> outside = consumer(Member.config(group))) {
        outside.assign(List.of(tp(topic, 0)));
        thrown(CommitFailedException.class, "a commit from outside", () -> outside.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(1))));
      }
      // One that was removed may not either; then it is back by itself.
      a.stopPolling();
      String id = a.id();
      admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
      thrown(CommitFailedException.class, "a commit of one that was removed", () -> a.ask(c -> {
        c.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(1)));
        return null;
      }));
      try (Member b = member(group, topic)) {
        Member.stable(topic, 2, new int[] {2}, b);
        check(!b.id().equals(id), "another member");
      }
    }
    thrown(InvalidGroupIdException.class, "no group at all", () -> {
      try (KafkaConsumer<byte[], byte[]> c = consumer()) {
        c.assign(List.of(tp(topic, 0)));
        c.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(1)));
      }
    });
  }

  private static void joinsRefused() throws Exception {
    String topic = create("group-joins", 1);
    try (Member brief = member(topic, topic, "session.timeout.ms", 5999); Member endless = member(topic, topic, "session.timeout.ms", 1_800_001, "heartbeat.interval.ms", 1000)) {
      for (Member m : List.of(brief, endless)) eventually(InvalidSessionTimeoutException.class, "a session time-out out of bounds", () -> m.failure.getClass());
    }
    thrown(InvalidGroupIdException.class, "no group to subscribe in", () -> {
      try (KafkaConsumer<byte[], byte[]> c = consumer()) {
        c.subscribe(List.of(topic));
        c.poll(Duration.ofMillis(10));
      }
    });
    try (Member m = member(topic, "a b")) {
      eventually(InvalidTopicException.class, "a topic that cannot be", () -> m.failure.getClass());
    }
    // A topic that is not there is waited for.
    String late = topic("group-joins-late");
    try (Member m = new Member(topic + "-late", List.of(late), "allow.auto.create.topics", false)) {
      eventually(true, "a member without a share", () -> m.generation() > 0);
      equal(Set.of(), m.owned, "its share");
      create("group-joins-late", 1);
      Member.stable(late, 1, new int[] {1}, m);
    }
  }

  private static void automaticCommits() throws Exception {
    String topic = create("group-auto", 2), group = topic;
    fill(topic, 2, 10);
    try (Admin admin = admin()) {
      try (Member a = member(group, topic, "enable.auto.commit", true, "auto.commit.interval.ms", 50)) {
        Member.haveRead(20, a);
        eventually(Map.of(tp(topic, 0), 10L, tp(topic, 1), 10L), "committed by and by", () -> offsets(admin, group));
      }
      fill(topic, 2, 5);
      try (Member a = member(group, topic, "enable.auto.commit", true, "auto.commit.interval.ms", 3_600_000)) {
        Member.haveRead(10, a);
      }
      equal(Map.of(tp(topic, 0), 15L, tp(topic, 1), 15L), offsets(admin, group), "committed at close");
    }
  }

  static Map<TopicPartition, Long> offsets(Admin admin, String group) throws Exception {
    Map<TopicPartition, Long> found = new HashMap<>();
    known(admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get()).forEach((p, o) -> found.put(p, o.offset()));
    return found;
  }

  private static void simple() throws Exception {
    String topic = create("group-simple", 2), group = topic;
    fill(topic, 2, 10);
    try (KafkaConsumer<byte[], byte[]> c = consumer(Member.config(group)); Admin admin = admin()) {
      c.assign(partitions(topic, 2));
      take(c, 20);
      c.commitSync();
      equal(10L, c.committed(Set.of(tp(topic, 1))).get(tp(topic, 1)).offset(), "committed");
      ConsumerGroupDescription d = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
      equal(GroupState.EMPTY, d.groupState(), "state");
      equal(true, d.isSimpleConsumerGroup(), "is simple");
      equal(List.of(), List.copyOf(d.members()), "members");
    }
    try (KafkaConsumer<byte[], byte[]> c = consumer(Member.config(group))) {
      c.assign(partitions(topic, 2));
      equal(10L, c.position(tp(topic, 0)), "position of the next");
    }
  }

  private static void seekAndPause() throws Exception {
    String topic = create("group-pause", 2), group = topic;
    try (Member a = member(group, topic)) {
      Member.stable(topic, 2, new int[] {2}, a);
      a.ask(c -> {
        c.pause(List.of(tp(topic, 0)));
        return null;
      });
      fill(topic, 2, 10);
      Member.haveRead(10, a);
      check(a.read.stream().allMatch(r -> r.partition() == 1), "a paused partition was read");
      equal(Set.of(tp(topic, 0)), a.ask(KafkaConsumer::paused), "paused");
      equal(0L, a.ask(c -> c.position(tp(topic, 0))), "position of the paused one");
      a.ask(c -> {
        c.seek(tp(topic, 0), new OffsetAndMetadata(6, Optional.of(0), ""));
        c.resume(List.of(tp(topic, 0)));
        return null;
      });
      Member.haveRead(14, a);
      equal(List.of("0:6", "0:7", "0:8", "0:9"), a.values().subList(10, 14), "read after the seek");
      a.ask(c -> {
        c.seekToEnd(List.of(tp(topic, 0)));
        c.seekToBeginning(List.of(tp(topic, 1)));
        return null;
      });
      eventually(24, "read again from the beginning", () -> a.read.size());
      equal(10L, a.ask(c -> c.position(tp(topic, 0))), "the end");
      equal(OptionalLong.of(0), a.ask(c -> c.currentLag(tp(topic, 0))), "lag");
      // A rebalance keeps a pause out of the way of others, and the rest is committed.
      commit(a);
      equal(Map.of(tp(topic, 0), 10L, tp(topic, 1), 10L), a.ask(c -> {
        Map<TopicPartition, Long> found = new HashMap<>();
        c.committed(Set.copyOf(partitions(topic, 2))).forEach((p, o) -> found.put(p, o.offset()));
        return found;
      }), "committed");
    }
  }

  private static void resets() throws Exception {
    String topic = create("group-resets", 1);
    fill(topic, 1, 10);
    try (Member latest = member(topic + "-latest", topic, "auto.offset.reset", "latest"); Member none = member(topic + "-none", topic, "auto.offset.reset", "none"); Member earliest = member(topic + "-earliest", topic); Member day = member(topic + "-day", topic, "auto.offset.reset", "by_duration:P1D")) {
      Member.stable(topic, 1, new int[] {1}, latest);
      equal(10L, latest.ask(c -> c.position(tp(topic, 0))), "latest");
      Member.haveRead(10, earliest);
      Member.haveRead(10, day);
      eventually(NoOffsetForPartitionException.class, "none", () -> none.failure.getClass());
      fill(topic, 1, 1);
      Member.haveRead(1, latest);
    }
    // A committed offset that is no longer there: by the same rule.
    try (Admin admin = admin()) {
      admin.alterConsumerGroupOffsets(topic + "-old", Map.of(tp(topic, 0), new OffsetAndMetadata(2))).all().get();
      admin.deleteRecords(Map.of(tp(topic, 0), RecordsToDelete.beforeOffset(5))).all().get();
    }
    try (Member old = member(topic + "-old", topic)) {
      Member.haveRead(6, old);
      equal(5L, old.read.get(0).offset(), "the first that is there");
    }
  }

  private static void pattern() throws Exception {
    String prefix = topic("group-pattern"), group = prefix;
    create("group-pattern-1", 2);
    String one = topic("group-pattern-1"), two = topic("group-pattern-2");
    String like = one.replace("-1-", "-[12]-");
    try (Member a = new Member(group, Pattern.compile(like)); Member b = new Member(group, Pattern.compile(like))) {
      Member.stable(one, 2, new int[] {1, 1}, a, b);
      create("group-pattern-2", 2);
      Member.stable(two, 2, new int[] {1, 1}, a, b);
      try (Admin admin = admin()) {
        admin.createPartitions(Map.of(one, NewPartitions.increaseTo(4))).all().get();
        Member.stable(one, 4, new int[] {2, 2}, a, b);
        fill(one, 4, 5);
        Member.haveRead(20, a, b);
        admin.deleteTopics(List.of(two)).all().get();
        eventually(true, "the topic that is gone is owned by none", () -> a.owned.size() + b.owned.size() == 4);
      }
    }
  }

  private static void recreated() throws Exception {
    String topic = create("group-recreated", 2), group = topic;
    fill(topic, 2, 10);
    try (Admin admin = admin(); KafkaProducer<byte[], byte[]> p = producer()) {
      p.send(new ProducerRecord<>(topic, 0, null, bytes("old"))).get();
      try (Member a = member(group, topic, "allow.auto.create.topics", false)) {
        Member.haveRead(21, a);
        commit(a);
        equal(Map.of(tp(topic, 0), 11L, tp(topic, 1), 10L), offsets(admin, group), "committed");
        admin.deleteTopics(List.of(topic)).all().get();
        // Its offsets go with it.
        eventually(Map.of(), "offsets of a topic that is gone", () -> offsets(admin, group));
        eventually(true, "made again", () -> {
          admin.createTopics(List.of(new NewTopic(topic, 2, (short) 1))).all().get();
          return true;
        });
        eventually(true, "a producer that lived through it", () -> p.send(new ProducerRecord<>(topic, 0, null, bytes("new"))).get().offset() >= 0);
        eventually(true, "a reader that lived through it", () -> a.values().contains("new"));
        Member.stable(topic, 2, new int[] {2}, a);
        commit(a);
        equal(true, offsets(admin, group).get(tp(topic, 0)) < 11, "offsets begin anew");
      }
    }
  }

  private static void enforced() throws Exception {
    String topic = create("group-enforced", 2), group = topic;
    try (Member a = member(group, topic); Member b = member(group, topic)) {
      Member.stable(topic, 2, new int[] {1, 1}, a, b);
      int before = a.generation();
      a.ask(c -> {
        c.enforceRebalance("because");
        return null;
      });
      eventually(true, "a newer generation", () -> a.generation() > before && b.generation() == a.generation());
      Member.stable(topic, 2, new int[] {1, 1}, a, b);
    }
  }

  private static void many() throws Exception {
    String topic = create("group-many", 42), group = topic;
    List<Member> members = new ArrayList<>();
    try {
      int[] each = new int[20];
      for (int i = 0; i < 20; i++) {
        members.add(member(group, topic));
        each[i] = i < 2 ? 3 : 2;
      }
      Member.stable(topic, 42, each, members.toArray(new Member[0]));
      members.add(member(group, topic));
      each = new int[21];
      Arrays.fill(each, 2);
      Member.stable(topic, 42, each, members.toArray(new Member[0]));
      fill(topic, 42, 3);
      Member.haveRead(126, members.toArray(new Member[0]));
      try (Admin admin = admin()) {
        ConsumerGroupDescription d = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        equal(21, d.members().size(), "members described");
        equal(GroupState.STABLE, d.groupState(), "state");
      }
    } finally {
      for (Member m : members) m.stopPolling();
      for (Member m : members) m.close();
    }
  }
}
