import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.*;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.clients.consumer.*;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.*;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.serialization.*;

/** Producing, consuming and the everyday admin calls of kafka-clients, without groups. */
final class Client extends Harness {
  static void tests() {
    test("java: every codec, with keys, values, headers and nulls", Client::codecs);
    test("java: records of a megabyte, and one too large", Client::large);
    test("java: acks 0, 1 and all, idempotent by default", Client::acks);
    test("java: seek by offset and by time", Client::seek);
    test("java: topics are created, described, grown and deleted", Client::topics);
    test("java: settings are shown and changed", Client::configs);
    test("java: records are deleted, offsets listed", Client::deleteRecords);
    test("java: the cluster describes itself", Client::cluster);
  }

  private static void codecs() throws Exception {
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      String topic = create(codec, 10);
      int n = 1000;
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      try (KafkaProducer<byte[], byte[]> p = producer("compression.type", codec)) {
        for (int i = 0; i < n; i++) {
          ProducerRecord<byte[], byte[]> r = new ProducerRecord<>(topic, i % 10, i % 7 == 0 ? null : bytes("key " + i), i % 11 == 0 ? null : bytes("value " + i + "abc".repeat(i % 50)));
          r.headers().add("number", bytes("" + i)).add("null", null).add("number", bytes("twice"));
          sent.add(p.send(r));
        }
        for (int i = 0; i < n; i++) equal((long) (i / 10), sent.get(i).get().offset(), codec + ": offset of " + i);
      }
      try (KafkaConsumer<byte[], byte[]> c = consumer()) {
        List<TopicPartition> all = new ArrayList<>();
        for (int i = 0; i < 10; i++) all.add(new TopicPartition(topic, i));
        c.assign(all);
        c.seekToBeginning(all);
        long[] next = new long[10];
        for (ConsumerRecord<byte[], byte[]> r : take(c, n)) {
          equal(next[r.partition()]++, r.offset(), codec + ": dense and in order");
          int i = (int) r.offset() * 10 + r.partition();
          equal(i % 7 == 0 ? null : "key " + i, r.key() == null ? null : new String(r.key(), StandardCharsets.UTF_8), codec + ": key");
          equal(i % 11 == 0 ? null : "value " + i + "abc".repeat(i % 50), r.value() == null ? null : new String(r.value(), StandardCharsets.UTF_8), codec + ": value");
          List<String> headers = new ArrayList<>();
          for (Header h : r.headers()) headers.add(h.key() + "=" + (h.value() == null ? null : new String(h.value(), StandardCharsets.UTF_8)));
          equal(List.of("number=" + i, "null=null", "number=twice"), headers, codec + ": headers");
        }
      }
    }
  }

  private static void large() throws Exception {
    String topic = create("large", 1);
    Random random = new Random(7);
    List<byte[]> values = new ArrayList<>();
    for (int i = 0; i < 8; i++) {
      byte[] v = new byte[1_000_000];
      random.nextBytes(v);
      values.add(v);
    }
    try (KafkaProducer<byte[], byte[]> p = producer("max.request.size", 5_000_000)) {
      List<Future<RecordMetadata>> sent = new ArrayList<>();
      for (byte[] v : values) sent.add(p.send(new ProducerRecord<>(topic, v)));
      for (int i = 0; i < 8; i++) equal((long) i, sent.get(i).get().offset(), "offset");
      try {
        p.send(new ProducerRecord<>(topic, new byte[2_000_000])).get();
        throw new AssertionError("2 MB were taken");
      } catch (ExecutionException e) {
        equal(RecordTooLargeException.class, e.getCause().getClass(), "the refusal");
      }
    }
    try (KafkaConsumer<byte[], byte[]> c = consumer()) {
      TopicPartition tp = new TopicPartition(topic, 0);
      c.assign(List.of(tp));
      c.seek(tp, 0);
      List<ConsumerRecord<byte[], byte[]>> got = take(c, 8);
      for (int i = 0; i < 8; i++) equal(true, Arrays.equals(values.get(i), got.get(i).value()), "value " + i);
    }
  }

  private static void acks() throws Exception {
    for (Object[] settings : new Object[][] {{"acks", "0", "enable.idempotence", false}, {"acks", "1", "enable.idempotence", false}, {"acks", "all", "enable.idempotence", false}, {}}) {
      String topic = create("acks" + settings.length + (settings.length > 0 ? settings[1] : ""), 1);
      try (KafkaProducer<byte[], byte[]> p = producer(settings)) {
        for (int i = 0; i < 5000; i++) p.send(new ProducerRecord<>(topic, bytes("" + i)));
        p.flush();
      }
      try (KafkaConsumer<byte[], byte[]> c = consumer()) {
        TopicPartition tp = new TopicPartition(topic, 0);
        c.assign(List.of(tp));
        c.seek(tp, 0);
        int i = 0;
        for (ConsumerRecord<byte[], byte[]> r : take(c, 5000)) {
          equal((long) i, r.offset(), "offset");
          equal("" + i++, new String(r.value(), StandardCharsets.UTF_8), "value");
        }
      }
    }
  }

  private static void seek() throws Exception {
    String topic = create("seek", 1);
    TopicPartition tp = new TopicPartition(topic, 0);
    long start = System.currentTimeMillis() - 1_000_000;
    for (String codec : List.of("none", "zstd")) {
      try (KafkaProducer<byte[], byte[]> p = producer("compression.type", codec)) {
        int first = codec.equals("none") ? 0 : 500;
        for (int i = first; i < first + 500; i++) p.send(new ProducerRecord<>(topic, 0, start + i * 1000L, null, bytes("" + i)));
      }
    }
    try (KafkaConsumer<byte[], byte[]> c = consumer()) {
      c.assign(List.of(tp));
      for (long at : new long[] {123, 877, 0, 999}) {
        c.seek(tp, at);
        equal(at, take(c, 1).get(0).offset(), "seek");
      }
      c.seekToEnd(List.of(tp));
      equal(1000L, c.position(tp), "end");
      for (long[] q : new long[][] {{0, 0}, {41_500, 42}, {750_000, 750}, {-5, 0}}) {
        OffsetAndTimestamp found = c.offsetsForTimes(Map.of(tp, start + q[0])).get(tp);
        equal(q[1], found.offset(), "offset at +" + q[0]);
        equal(start + q[1] * 1000, found.timestamp(), "its time");
      }
      equal(null, c.offsetsForTimes(Map.of(tp, start + 5_000_000)).get(tp), "past the end");
      equal(Map.of(tp, 0L), c.beginningOffsets(List.of(tp)), "beginning");
      equal(Map.of(tp, 1000L), c.endOffsets(List.of(tp)), "end");
      c.seek(tp, 5000);
      try {
        c.poll(Duration.ofSeconds(10));
        throw new AssertionError("nothing said about an offset out of range");
      } catch (org.apache.kafka.clients.consumer.OffsetOutOfRangeException e) {
        equal(Set.of(tp), e.offsetOutOfRangePartitions().keySet(), "partitions out of range");
      }
    }
  }

  private static void topics() throws Exception {
    String topic = topic("topics");
    try (Admin a = admin()) {
      CreateTopicsResult made = a.createTopics(List.of(new NewTopic(topic, 3, (short) 1).configs(Map.of("retention.ms", "12345678"))));
      made.all().get();
      equal(3, made.numPartitions(topic).get(), "partitions of the answer");
      equal("12345678", made.config(topic).get().get("retention.ms").value(), "setting of the answer");
      try {
        a.createTopics(List.of(new NewTopic(topic, 1, (short) 1))).all().get();
        throw new AssertionError("created twice");
      } catch (ExecutionException e) {
        equal(TopicExistsException.class, e.getCause().getClass(), "the refusal");
      }
      for (NewTopic bad : List.of(new NewTopic("a b", 1, (short) 1), new NewTopic(topic + "x", 0, (short) 1), new NewTopic(topic + "x", 1, (short) 3), new NewTopic(topic + "x", 1, (short) 1).configs(Map.of("no.such.setting", "1")))) {
        try {
          a.createTopics(List.of(bad)).all().get();
          throw new AssertionError("created " + bad);
        } catch (ExecutionException e) {
          if (!(e.getCause() instanceof ApiException)) throw e;
        }
      }
      a.createTopics(List.of(new NewTopic(topic + "-dry", 1, (short) 1)), new CreateTopicsOptions().validateOnly(true)).all().get();
      equal(false, a.listTopics().names().get().contains(topic + "-dry"), "a dry run makes nothing");
      equal(true, a.listTopics().names().get().contains(topic), "listed");
      TopicDescription d = a.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
      equal(3, d.partitions().size(), "partitions described");
      equal(made.topicId(topic).get(), d.topicId(), "topic id");
      equal(1, d.partitions().get(0).isr().size(), "in-sync replicas");
      a.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
      equal(5, a.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().size(), "partitions after growing");
      try {
        a.createPartitions(Map.of(topic, NewPartitions.increaseTo(2))).all().get();
        throw new AssertionError("shrunk");
      } catch (ExecutionException e) {
        equal(InvalidPartitionsException.class, e.getCause().getClass(), "the refusal");
      }
      a.deleteTopics(List.of(topic)).all().get();
      equal(false, a.listTopics().names().get().contains(topic), "gone");
      try {
        a.describeTopics(List.of(topic)).allTopicNames().get();
        throw new AssertionError("described though deleted");
      } catch (ExecutionException e) {
        equal(UnknownTopicOrPartitionException.class, e.getCause().getClass(), "the refusal");
      }
    }
  }

  private static void configs() throws Exception {
    String topic = create("configs", 1);
    ConfigResource r = new ConfigResource(ConfigResource.Type.TOPIC, topic);
    try (Admin a = admin()) {
      ConfigEntry e = a.describeConfigs(List.of(r)).all().get().get(r).get("retention.ms");
      equal("604800000", e.value(), "default");
      equal(true, e.isDefault(), "is default");
      a.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", "1000000"), AlterConfigOp.OpType.SET), new AlterConfigOp(new ConfigEntry("cleanup.policy", "compact"), AlterConfigOp.OpType.APPEND)))).all().get();
      Config c = a.describeConfigs(List.of(r), new DescribeConfigsOptions().includeSynonyms(true).includeDocumentation(true)).all().get().get(r);
      equal("1000000", c.get("retention.ms").value(), "changed");
      equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, c.get("retention.ms").source(), "source");
      equal("delete,compact", c.get("cleanup.policy").value(), "appended");
      equal(ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, c.get("retention.ms").synonyms().get(0).source(), "strongest synonym");
      a.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(new ConfigEntry("retention.ms", ""), AlterConfigOp.OpType.DELETE)))).all().get();
      equal("604800000", a.describeConfigs(List.of(r)).all().get().get(r).get("retention.ms").value(), "back to the default");
      for (ConfigEntry bad : List.of(new ConfigEntry("retention.ms", "soon"), new ConfigEntry("no.such.setting", "1"))) {
        try {
          a.incrementalAlterConfigs(Map.of(r, List.of(new AlterConfigOp(bad, AlterConfigOp.OpType.SET)))).all().get();
          throw new AssertionError("taken: " + bad);
        } catch (ExecutionException x) {
          equal(InvalidConfigurationException.class, x.getCause().getClass(), "the refusal of " + bad.name());
        }
      }
      int node = a.describeCluster().controller().get().id();
      ConfigResource b = new ConfigResource(ConfigResource.Type.BROKER, "" + node);
      if (a.describeConfigs(List.of(b)).all().get().get(b).entries().size() < 20) throw new AssertionError("hardly any broker settings");
      try {
        ConfigResource none = new ConfigResource(ConfigResource.Type.TOPIC, topic + "-none");
        a.describeConfigs(List.of(none)).all().get();
        throw new AssertionError("settings of a topic that is not there");
      } catch (ExecutionException x) {
        equal(UnknownTopicOrPartitionException.class, x.getCause().getClass(), "the refusal");
      }
    }
  }

  private static void deleteRecords() throws Exception {
    String topic = create("delete", 2);
    TopicPartition tp = new TopicPartition(topic, 0);
    long start = System.currentTimeMillis() - 100_000;
    try (KafkaProducer<byte[], byte[]> p = producer()) {
      for (int i = 0; i < 100; i++) p.send(new ProducerRecord<>(topic, 0, start + i, null, bytes("" + i)));
    }
    try (Admin a = admin(); KafkaConsumer<byte[], byte[]> c = consumer()) {
      equal(45L, a.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(45))).lowWatermarks().get(tp).get().lowWatermark(), "low watermark");
      equal(45L, a.listOffsets(Map.of(tp, OffsetSpec.earliest())).partitionResult(tp).get().offset(), "earliest");
      equal(100L, a.listOffsets(Map.of(tp, OffsetSpec.latest())).partitionResult(tp).get().offset(), "latest");
      equal(99L, a.listOffsets(Map.of(tp, OffsetSpec.maxTimestamp())).partitionResult(tp).get().offset(), "of the largest timestamp");
      equal(60L, a.listOffsets(Map.of(tp, OffsetSpec.forTimestamp(start + 60))).partitionResult(tp).get().offset(), "by time");
      try {
        a.deleteRecords(Map.of(tp, RecordsToDelete.beforeOffset(1000))).all().get();
        throw new AssertionError("deleted past the end");
      } catch (ExecutionException e) {
        equal(org.apache.kafka.common.errors.OffsetOutOfRangeException.class, e.getCause().getClass(), "the refusal");
      }
      c.assign(List.of(tp));
      c.seekToBeginning(List.of(tp));
      equal(45L, take(c, 1).get(0).offset(), "first record left");
    }
  }

  private static void cluster() throws Exception {
    try (Admin a = admin()) {
      DescribeClusterResult d = a.describeCluster();
      equal(1, d.nodes().get().size(), "nodes");
      equal(d.nodes().get().iterator().next(), d.controller().get(), "controller");
      if (d.clusterId().get() == null || d.clusterId().get().isEmpty()) throw new AssertionError("no cluster id");
    }
  }
}
