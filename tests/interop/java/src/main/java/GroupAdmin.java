import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.errors.*;

/** The administrator's calls of kafka-clients on groups. */
final class GroupAdmin extends Harness {
  static void tests() {
    test("admin: groups are listed, by state, type and protocol", GroupAdmin::list);
    test("admin: groups are described", GroupAdmin::describe);
    test("admin: offsets are listed, all or some, of many groups at once", GroupAdmin::listOffsets);
    test("admin: offsets are set and deleted", GroupAdmin::alterOffsets);
    test("admin: groups are deleted", GroupAdmin::delete);
    test("admin: members are removed from a group", GroupAdmin::removeMembers);
  }

  private static Set<String> listed(Admin admin, ListGroupsOptions options, String prefix) throws Exception {
    return admin.listGroups(options).all().get().stream().map(GroupListing::groupId).filter(g -> g.startsWith(prefix)).collect(Collectors.toCollection(TreeSet::new));
  }

  private static void list() throws Exception {
    String topic = create("admin-list", 1), live = topic + "-live", empty = topic + "-empty", simple = topic + "-simple";
    try (Admin admin = admin(); Member a = new Member(live, List.of(topic))) {
      Member.stable(topic, 1, new int[] {1}, a);
      try (Member b = new Member(empty, List.of(topic))) {
        Member.stable(topic, 1, new int[] {1}, b);
      }
      admin.alterConsumerGroupOffsets(simple, Map.of(tp(topic, 0), new OffsetAndMetadata(0))).all().get();
      equal(Set.of(live, empty, simple), listed(admin, new ListGroupsOptions(), topic), "all");
      equal(Set.of(live), listed(admin, new ListGroupsOptions().inGroupStates(Set.of(GroupState.STABLE)), topic), "stable");
      equal(Set.of(empty, simple), listed(admin, new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY)), topic), "empty");
      equal(Set.of(live, empty, simple), listed(admin, new ListGroupsOptions().inGroupStates(Set.of(GroupState.EMPTY, GroupState.STABLE)), topic), "either");
      equal(Set.of(), listed(admin, new ListGroupsOptions().inGroupStates(Set.of(GroupState.DEAD)), topic), "dead");
      equal(Set.of(live, empty, simple), listed(admin, new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC)), topic), "classic");
      equal(Set.of(), listed(admin, new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER, GroupType.SHARE)), topic), "of the newer types");
      equal(Set.of(live, empty), listed(admin, new ListGroupsOptions().withProtocolTypes(Set.of("consumer")), topic), "of the consumer protocol");
      equal(Set.of(live, empty, simple), listed(admin, ListGroupsOptions.forConsumerGroups(), topic), "consumer groups");
      for (GroupListing g : admin.listGroups().all().get()) {
        if (!g.groupId().startsWith(topic)) continue;
        equal(Optional.of(GroupType.CLASSIC), g.type(), "type of " + g);
        equal(Optional.of(g.groupId().equals(live) ? GroupState.STABLE : GroupState.EMPTY), g.groupState(), "state of " + g);
        equal(g.groupId().equals(simple), g.isSimpleConsumerGroup(), "simple: " + g);
        equal(g.groupId().equals(simple) ? "" : "consumer", g.protocol(), "protocol of " + g);
      }
    }
  }

  private static void describe() throws Exception {
    String topic = create("admin-describe", 4), group = topic;
    try (Admin admin = admin(); Member a = new Member(group, List.of(topic), "client.id", "first", "partition.assignment.strategy", RoundRobinAssignor.class.getName()); Member b = new Member(group, List.of(topic), "client.id", "second", "group.instance.id", "fixed", "partition.assignment.strategy", RoundRobinAssignor.class.getName())) {
      Member.stable(topic, 4, new int[] {2, 2}, a, b);
      ConsumerGroupDescription d = admin.describeConsumerGroups(List.of(group), new DescribeConsumerGroupsOptions().includeAuthorizedOperations(true)).all().get().get(group);
      equal(GroupState.STABLE, d.groupState(), "state");
      equal(GroupType.CLASSIC, d.type(), "type");
      equal("roundrobin", d.partitionAssignor(), "assignor");
      equal(false, d.isSimpleConsumerGroup(), "simple");
      equal(admin.describeCluster().nodes().get().iterator().next(), d.coordinator(), "coordinator");
      equal(Set.of(org.apache.kafka.common.acl.AclOperation.READ, org.apache.kafka.common.acl.AclOperation.DESCRIBE, org.apache.kafka.common.acl.AclOperation.DELETE, org.apache.kafka.common.acl.AclOperation.ALTER_CONFIGS, org.apache.kafka.common.acl.AclOperation.DESCRIBE_CONFIGS), d.authorizedOperations(), "operations allowed");
      equal(2, d.members().size(), "members");
      for (MemberDescription m : d.members()) {
        Member is = m.clientId().equals("first") ? a : b;
        equal(is == a ? "first" : "second", m.clientId(), "client id");
        equal(is.id(), m.consumerId(), "member id");
        check(m.consumerId().matches((is == a ? "first" : "fixed") + "-[0-9a-f-]{36}"), "shape of the member id " + m.consumerId());
        equal(is == a ? Optional.empty() : Optional.of("fixed"), m.groupInstanceId(), "instance id");
        check(m.host().matches("/\\d+\\.\\d+\\.\\d+\\.\\d+"), "host " + m.host());
        equal(Set.copyOf(is.owned), m.assignment().topicPartitions(), "assignment");
      }
      ClassicGroupDescription classic = admin.describeClassicGroups(List.of(group)).all().get().get(group);
      equal(ClassicGroupState.STABLE, classic.state(), "state of the classic group");
      equal("consumer", classic.protocol(), "protocol");
      equal("roundrobin", classic.protocolData(), "protocol data");
      refused(GroupIdNotFoundException.class, "describe of none", admin.describeConsumerGroups(List.of(group + "-none")).all());
      refused(GroupIdNotFoundException.class, "describe of none", admin.describeClassicGroups(List.of(group + "-none")).all());
      a.close();
      eventually(1, "members when one left", () -> admin.describeConsumerGroups(List.of(group)).all().get().get(group).members().size());
      admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
    }
  }

  private static void listOffsets() throws Exception {
    String topic = create("admin-offsets", 3), one = topic + "-1", two = topic + "-2";
    try (Admin admin = admin()) {
      OffsetAndMetadata five = new OffsetAndMetadata(5, Optional.of(0), "five"), seven = new OffsetAndMetadata(7), zero = new OffsetAndMetadata(0, Optional.empty(), "");
      admin.alterConsumerGroupOffsets(one, Map.of(tp(topic, 0), five, tp(topic, 2), seven)).all().get();
      admin.alterConsumerGroupOffsets(two, Map.of(tp(topic, 1), zero)).all().get();
      equal(Map.of(tp(topic, 0), five, tp(topic, 2), seven), admin.listConsumerGroupOffsets(one).partitionsToOffsetAndMetadata().get(), "all of one group");
      Map<TopicPartition, OffsetAndMetadata> some = new HashMap<>();
      some.put(tp(topic, 0), five);
      some.put(tp(topic, 1), null);
      equal(some, admin.listConsumerGroupOffsets(Map.of(one, new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(tp(topic, 0), tp(topic, 1))))).partitionsToOffsetAndMetadata(one).get(), "some, one of them without an offset");
      Map<String, Map<TopicPartition, OffsetAndMetadata>> both = admin.listConsumerGroupOffsets(Map.of(one, new ListConsumerGroupOffsetsSpec().topicPartitions(List.of(tp(topic, 2))), two, new ListConsumerGroupOffsetsSpec())).all().get();
      equal(Map.of(one, Map.of(tp(topic, 2), seven), two, Map.of(tp(topic, 1), zero)), both, "two groups at once");
      equal(Map.of(), admin.listConsumerGroupOffsets(topic + "-none").partitionsToOffsetAndMetadata().get(), "a group that is not there");
      equal(Map.of(tp(topic, 1), zero), admin.listConsumerGroupOffsets(Map.of(two, new ListConsumerGroupOffsetsSpec()), new ListConsumerGroupOffsetsOptions().requireStable(true)).all().get().get(two), "stable ones");
    }
  }

  private static void alterOffsets() throws Exception {
    String topic = create("admin-alter", 2), other = create("admin-alter-other", 1), group = topic;
    try (Admin admin = admin()) {
      try (Member a = new Member(group, List.of(topic))) {
        Member.stable(topic, 2, new int[] {2}, a);
        refused(UnknownMemberIdException.class, "offsets of a live group", admin.alterConsumerGroupOffsets(group, Map.of(tp(topic, 0), new OffsetAndMetadata(1))).all());
        a.ask(c -> {
          c.commitSync(Map.of(tp(topic, 0), new OffsetAndMetadata(3), tp(other, 0), new OffsetAndMetadata(4)));
          return null;
        });
        refused(GroupSubscribedToTopicException.class, "deletion of an offset in use", admin.deleteConsumerGroupOffsets(group, Set.of(tp(topic, 0))).partitionResult(tp(topic, 0)));
        admin.deleteConsumerGroupOffsets(group, Set.of(tp(other, 0))).all().get();
        equal(Map.of(tp(topic, 0), 3L), Groups.offsets(admin, group), "what is left");
      }
      eventually(true, "an empty group's offsets can be set", () -> {
        admin.alterConsumerGroupOffsets(group, Map.of(tp(topic, 0), new OffsetAndMetadata(1), tp(topic, 1), new OffsetAndMetadata(2))).all().get();
        return true;
      });
      equal(Map.of(tp(topic, 0), 1L, tp(topic, 1), 2L), Groups.offsets(admin, group), "as set");
      admin.deleteConsumerGroupOffsets(group, Set.of(tp(topic, 0))).all().get();
      equal(Map.of(tp(topic, 1), 2L), Groups.offsets(admin, group), "after the deletion");
      refused(GroupIdNotFoundException.class, "offsets of no group", admin.deleteConsumerGroupOffsets(group + "-none", Set.of(tp(topic, 0))).all());
      TopicPartition none = tp(topic + "-none", 0);
      refused(UnknownTopicOrPartitionException.class, "an offset of no topic", admin.alterConsumerGroupOffsets(group, Map.of(none, new OffsetAndMetadata(1))).partitionResult(none));
      refused(UnknownTopicOrPartitionException.class, "an offset of no topic", admin.deleteConsumerGroupOffsets(group, Set.of(none)).partitionResult(none));
      // One bad partition of a request fails alone.
      AlterConsumerGroupOffsetsResult mixed = admin.alterConsumerGroupOffsets(group, Map.of(none, new OffsetAndMetadata(1), tp(topic, 0), new OffsetAndMetadata(9)));
      mixed.partitionResult(tp(topic, 0)).get();
      equal(9L, Groups.offsets(admin, group).get(tp(topic, 0)), "the good one");
    }
  }

  private static void delete() throws Exception {
    String topic = create("admin-delete", 1), live = topic + "-live", empty = topic + "-empty";
    try (Admin admin = admin(); Member a = new Member(live, List.of(topic))) {
      Member.stable(topic, 1, new int[] {1}, a);
      admin.alterConsumerGroupOffsets(empty, Map.of(tp(topic, 0), new OffsetAndMetadata(1))).all().get();
      DeleteConsumerGroupsResult all = admin.deleteConsumerGroups(List.of(live, empty, topic + "-none"));
      all.deletedGroups().get(empty).get();
      refused(GroupNotEmptyException.class, "deletion of a live group", all.deletedGroups().get(live));
      refused(GroupIdNotFoundException.class, "deletion of no group", all.deletedGroups().get(topic + "-none"));
      equal(Set.of(live), listed(admin, new ListGroupsOptions(), topic), "what is left");
      equal(Map.of(), Groups.offsets(admin, empty), "offsets of a deleted group");
      a.close();
      eventually(true, "deletion of one that is empty now", () -> {
        admin.deleteConsumerGroups(List.of(live)).all().get();
        return true;
      });
      equal(Set.of(), listed(admin, new ListGroupsOptions(), topic), "nothing is left");
    }
  }

  private static void removeMembers() throws Exception {
    String topic = create("admin-remove", 2), group = topic;
    try (Admin admin = admin(); Member a = new Member(group, List.of(topic), "group.instance.id", "a"); Member b = new Member(group, List.of(topic))) {
      Member.stable(topic, 2, new int[] {1, 1}, a, b);
      RemoveMembersFromConsumerGroupResult none = admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("nobody"))));
      refused(UnknownMemberIdException.class, "removal of nobody", none.memberResult(new MemberToRemove("nobody")));
      a.stopPolling();
      RemoveMembersFromConsumerGroupOptions one = new RemoveMembersFromConsumerGroupOptions(List.of(new MemberToRemove("a")));
      one.reason("it is late");
      admin.removeMembersFromConsumerGroup(group, one).all().get();
      eventually(2, "the other has it all", () -> b.owned.size());
      // A dynamic member that is removed with all others comes back by itself.
      String id = b.id();
      admin.removeMembersFromConsumerGroup(group, new RemoveMembersFromConsumerGroupOptions()).all().get();
      eventually(true, "it is back as another", () -> !b.id().equals(id) && b.owned.size() == 2 && b.failure == null);
    }
  }
}
