import java.util.*;
import java.util.stream.Collectors;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.*;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;

/** The administrator's calls of kafka-clients on topics and brokers that are less common than those of `Client`. */
final class BrokerAdmin extends Harness {
  static void tests() {
    test("admin: settings of groups", BrokerAdmin::groupConfigs);
    test("admin: log directories", BrokerAdmin::logDirs);
    test("admin: topics by id, placed by hand, a hundred in pages", BrokerAdmin::topics);
    test("admin: producers of a partition", BrokerAdmin::producers);
  }

  private static void groupConfigs() throws Exception {
    ConfigResource group = new ConfigResource(ConfigResource.Type.GROUP, topic("admin-config"));
    try (Admin admin = admin()) {
      ConfigEntry e = admin.describeConfigs(List.of(group)).all().get().get(group).get("consumer.session.timeout.ms");
      equal("45000", e.value(), "default");
      admin.incrementalAlterConfigs(Map.of(group, List.of(new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", "50000"), AlterConfigOp.OpType.SET)))).all().get();
      eventually("50000", "changed", () -> admin.describeConfigs(List.of(group)).all().get().get(group).get("consumer.session.timeout.ms").value());
      ConfigEntry changed = admin.describeConfigs(List.of(group), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all().get().get(group).get("consumer.session.timeout.ms");
      equal(ConfigEntry.ConfigSource.DYNAMIC_GROUP_CONFIG, changed.source(), "source");
      equal(ConfigEntry.ConfigType.INT, changed.type(), "type");
      equal(List.of("DYNAMIC_GROUP_CONFIG:consumer.session.timeout.ms=50000", "DEFAULT_CONFIG:group.consumer.session.timeout.ms=45000"), changed.synonyms().stream().map(s -> s.source() + ":" + s.name() + "=" + s.value()).collect(Collectors.toList()), "synonyms");
      check(changed.documentation() != null && changed.documentation().length() > 20, "documentation: " + changed.documentation());
      refused(InvalidConfigurationException.class, "no such setting", admin.incrementalAlterConfigs(Map.of(group, List.of(new AlterConfigOp(new ConfigEntry("no.such.setting", "1"), AlterConfigOp.OpType.SET)))).all());
      refused(InvalidConfigurationException.class, "a session shorter than allowed", admin.incrementalAlterConfigs(Map.of(group, List.of(new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", "1"), AlterConfigOp.OpType.SET)))).all());
      admin.incrementalAlterConfigs(Map.of(group, List.of(new AlterConfigOp(new ConfigEntry("consumer.session.timeout.ms", ""), AlterConfigOp.OpType.DELETE)))).all().get();
      eventually("45000", "the default again", () -> admin.describeConfigs(List.of(group)).all().get().get(group).get("consumer.session.timeout.ms").value());
    }
  }

  private static void logDirs() throws Exception {
    String topic = create("admin-dirs", 2);
    fill(topic, 1, 100);
    try (Admin admin = admin()) {
      int node = admin.describeCluster().controller().get().id();
      Map<String, LogDirDescription> dirs = admin.describeLogDirs(List.of(node)).allDescriptions().get().get(node);
      equal(1, dirs.size(), "directories");
      LogDirDescription d = dirs.values().iterator().next();
      equal(null, d.error(), "error");
      ReplicaInfo filled = d.replicaInfos().get(tp(topic, 0));
      check(filled.size() > 1000 && filled.size() < 100_000, "size " + filled);
      equal(0L, filled.offsetLag(), "lag");
      equal(false, filled.isFuture(), "future");
      check(d.totalBytes().isPresent() && d.usableBytes().isPresent() && d.totalBytes().getAsLong() >= d.usableBytes().getAsLong() && d.usableBytes().getAsLong() > 0, "bytes of the disk: " + d);
      String dir = dirs.keySet().iterator().next();
      equal(dir, admin.describeReplicaLogDirs(List.of(new TopicPartitionReplica(topic, 0, node))).all().get().get(new TopicPartitionReplica(topic, 0, node)).getCurrentReplicaLogDir(), "directory of the replica");
    }
  }

  private static void topics() throws Exception {
    String name = topic("admin-topics");
    try (Admin admin = admin()) {
      int node = admin.describeCluster().controller().get().id();
      CreateTopicsResult made = admin.createTopics(List.of(new NewTopic(name, Map.of(0, List.of(node), 1, List.of(node))), new NewTopic(name + "-default", Optional.empty(), Optional.empty())));
      made.all().get();
      equal(2, made.numPartitions(name).get(), "partitions placed by hand");
      equal(1, made.numPartitions(name + "-default").get(), "partitions by default");
      Uuid id = made.topicId(name).get();
      eventually(name, "described by id", () -> admin.describeTopics(TopicCollection.ofTopicIds(List.of(id))).allTopicIds().get().get(id).name());
      refused(UnknownTopicIdException.class, "describe of an unknown id", admin.describeTopics(TopicCollection.ofTopicIds(List.of(Uuid.randomUuid()))).allTopicIds());
      admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all().get();
      eventually(false, "listed after deletion", () -> admin.listTopics().names().get().contains(name));
      refused(UnknownTopicOrPartitionException.class, "describe of a deleted one", admin.describeTopics(List.of(name)).allTopicNames());
      refused(UnknownTopicIdException.class, "deletion of an unknown id", admin.deleteTopics(TopicCollection.ofTopicIds(List.of(id))).all());
      refused(InvalidTopicException.class, "an internal name's rules", admin.createTopics(List.of(new NewTopic("..", 1, (short) 1))).all());
      refused(InvalidReplicaAssignmentException.class, "a broker that is not there", admin.createTopics(List.of(new NewTopic(name + "-far", Map.of(0, List.of(77))))).all());
      // Many in one request, and described in pages.
      List<NewTopic> many = new ArrayList<>();
      for (int i = 0; i < 100; i++) many.add(new NewTopic(name + "-many-" + i, 3, (short) 1));
      admin.createTopics(many).all().get();
      List<String> names = many.stream().map(NewTopic::name).collect(Collectors.toList());
      eventually(300, "partitions described", () -> admin.describeTopics(names, new DescribeTopicsOptions().partitionSizeLimitPerResponse(50)).allTopicNames().get().values().stream().mapToInt(t -> t.partitions().size()).sum());
      admin.deleteTopics(names).all().get();
      eventually(Set.of(), "left after deletion", () -> {
        Set<String> left = new HashSet<>(admin.listTopics(new ListTopicsOptions().listInternal(true)).names().get());
        left.retainAll(names);
        return left;
      });
      // Each change of settings is judged alone.
      ConfigResource good = new ConfigResource(ConfigResource.Type.TOPIC, name + "-default"), bad = new ConfigResource(ConfigResource.Type.TOPIC, name + "-none");
      List<AlterConfigOp> op = List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "9000000"), AlterConfigOp.OpType.SET));
      AlterConfigsResult dry = admin.incrementalAlterConfigs(Map.of(good, op), new AlterConfigsOptions().validateOnly(true));
      dry.all().get();
      equal("604800000", admin.describeConfigs(List.of(good)).all().get().get(good).get("retention.ms").value(), "a dry run changes nothing");
      AlterConfigsResult changed = admin.incrementalAlterConfigs(Map.of(good, op, bad, op));
      changed.values().get(good).get();
      refused(UnknownTopicOrPartitionException.class, "settings of no topic", changed.values().get(bad));
      eventually("9000000", "changed", () -> admin.describeConfigs(List.of(good)).all().get().get(good).get("retention.ms").value());
    }
  }

  private static void producers() throws Exception {
    String topic = create("admin-producers", 1);
    try (KafkaProducer<byte[], byte[]> p = producer(); Admin admin = admin()) {
      for (int i = 0; i < 10; i++) p.send(new ProducerRecord<>(topic, 0, null, bytes("" + i))).get();
      List<ProducerState> active = admin.describeProducers(List.of(tp(topic, 0))).partitionResult(tp(topic, 0)).get().activeProducers();
      equal(1, active.size(), "producers");
      equal(9, active.get(0).lastSequence(), "last sequence");
      equal(0, active.get(0).producerEpoch(), "epoch");
      equal(OptionalLong.empty(), active.get(0).currentTransactionStartOffset(), "transaction");
    }
  }
}
