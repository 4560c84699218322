import java.nio.file.*;
import java.util.*;
import java.util.regex.*;
import org.apache.kafka.clients.admin.*;
import org.apache.kafka.common.config.ConfigResource;

/** Kafka's command line tools that need no group: what each prints is checked. */
final class Tools extends Harness {
  static void tests() {
    test("tools: topics creates, lists, describes, grows and deletes", Tools::topics);
    test("tools: topics creates and deletes by its rules, and says what is wrong", Tools::topicsRefused);
    test("tools: configs of a topic", Tools::topicConfigs);
    test("tools: configs of the brokers", Tools::brokerConfigs);
    test("tools: get-offsets by every kind of time and filter", Tools::getOffsets);
    test("tools: delete-records from a file", Tools::deleteRecords);
    test("tools: log-dirs", Tools::logDirs);
    test("tools: console producer, console consumer of a partition", Tools::console);
    test("tools: producer performance", Tools::producerPerformance);
    test("tools: verifiable producer", Tools::verifiableProducer);
    test("tools: cluster and broker-api-versions", Tools::cluster);
  }

  static Tool run(String name, String... args) throws Exception {
    return Tool.run(name, at(args));
  }

  static Tool fails(String name, String... args) throws Exception {
    return Tool.fails(name, at(args));
  }

  static String[] at(String... args) {
    List<String> all = new ArrayList<>(List.of(args));
    all.addAll(List.of("--bootstrap-server", broker));
    return all.toArray(new String[0]);
  }

  private static void topics() throws Exception {
    String topic = topic("tool-topics");
    equal(List.of("Created topic " + topic + "."), run("TopicCommand", "--create", "--topic", topic, "--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=1234567").lines(), "create");
    Tool described = run("TopicCommand", "--describe", "--topic", topic)
        .says("Topic: " + topic + "\\s+TopicId: [\\w-]{22}\\s+PartitionCount: 3\\s+ReplicationFactor: 1\\s+Configs: .*\\bretention\\.ms=1234567\\b.*");
    for (int i = 0; i < 3; i++) described.says("Topic: " + topic + "\\s+Partition: " + i + "\\s+Leader: (\\d+)\\s+Replicas: \\1\\s+Isr: \\1\\b.*");
    equal(4, described.lines().size(), "lines of describe");
    Matcher id = Pattern.compile("TopicId: (\\S+)").matcher(described.out());
    check(id.find(), "no topic id");
    run("TopicCommand", "--describe", "--topic-id", id.group(1)).says("Topic: " + topic + "\\s+TopicId: " + Pattern.quote(id.group(1)) + "\\s+PartitionCount: 3\\s.*").says("Topic: " + topic + "\\s+Partition: 2\\s.*");
    run("TopicCommand", "--list").says(Pattern.quote(topic));
    equal(List.of(topic), run("TopicCommand", "--list", "--exclude-internal", "--topic", topic.replace("tool-", ".*")).lines(), "list by expression");
    run("TopicCommand", "--describe", "--topics-with-overrides").says("Topic: " + topic + "\\s.*");
    for (String kind : List.of("--under-replicated-partitions", "--unavailable-partitions", "--under-min-isr-partitions")) {
      equal(List.of(), run("TopicCommand", "--describe", kind, "--topic", topic).lines(), kind);
    }
    equal(3, run("TopicCommand", "--describe", "--at-min-isr-partitions", "--topic", topic).lines().size(), "at min isr");
    run("TopicCommand", "--alter", "--topic", topic, "--partitions", "5");
    run("TopicCommand", "--describe", "--topic", topic).says("Topic: " + topic + "\\s.*PartitionCount: 5\\s.*").says("Topic: " + topic + "\\s+Partition: 4\\s.*");
    run("TopicCommand", "--delete", "--topic", topic);
    run("TopicCommand", "--list").saysNot(Pattern.quote(topic));
  }

  private static void topicsRefused() throws Exception {
    String topic = topic("tool-refused");
    run("TopicCommand", "--create", "--topic", topic, "--partitions", "2");
    fails("TopicCommand", "--create", "--topic", topic).says("Error while executing topic command : .*" + topic + ".* exists.*");
    run("TopicCommand", "--create", "--topic", topic, "--if-not-exists");
    fails("TopicCommand", "--alter", "--topic", topic, "--partitions", "1").says("Error while executing topic command : .*\\b2 partition.*");
    fails("TopicCommand", "--create", "--topic", topic + "-x", "--replication-factor", "3").says("Error while executing topic command : .*replica.*");
    fails("TopicCommand", "--create", "--topic", topic + "-x", "--config", "no.such.setting=1").says("Error while executing topic command : .*no\\.such\\.setting.*");
    fails("TopicCommand", "--describe", "--topic", topic + "-x").says(".*Topic '" + topic + "-x' does not exist as expected");
    fails("TopicCommand", "--delete", "--topic", topic + "-x").says(".*Topic '" + topic + "-x' does not exist as expected");
    int node;
    try (Admin a = admin()) {
      node = a.describeCluster().controller().get().id();
    }
    run("TopicCommand", "--create", "--topic", topic + "-placed", "--replica-assignment", node + "," + node);
    run("TopicCommand", "--describe", "--topic", topic + "-placed").says("Topic: .*\\bPartition: 1\\s+Leader: " + node + "\\s.*");
    run("TopicCommand", "--delete", "--topic", topic + "(-placed)?");
    run("TopicCommand", "--list").saysNot(Pattern.quote(topic) + ".*");
  }

  private static void topicConfigs() throws Exception {
    String topic = create("tool-configs", 1);
    String[] one = {"--entity-type", "topics", "--entity-name", topic};
    equal(List.of("Completed updating config for topic " + topic + "."), config(one, "--alter", "--add-config", "retention.ms=7000000,cleanup.policy=[compact,delete]").lines(), "alter");
    config(one, "--describe")
        .says("Dynamic configs for topic " + topic + " are:")
        .says("retention\\.ms=7000000 sensitive=false synonyms=\\{DYNAMIC_TOPIC_CONFIG:retention\\.ms=7000000.*\\}")
        .says("cleanup\\.policy=compact,delete sensitive=false synonyms=\\{DYNAMIC_TOPIC_CONFIG:cleanup\\.policy=compact,delete, DEFAULT_CONFIG:log\\.cleanup\\.policy=delete\\}");
    Tool all = config(one, "--describe", "--all")
        .says("All configs for topic " + topic + " are:")
        .says("retention\\.ms=7000000 .*")
        .says("max\\.message\\.bytes=1048588 sensitive=false synonyms=\\{DEFAULT_CONFIG:message\\.max\\.bytes=1048588\\}")
        .says("segment\\.bytes=1073741824 sensitive=false synonyms=\\{DEFAULT_CONFIG:log\\.segment\\.bytes=1073741824\\}");
    check(all.lines().size() > 25, "hardly any settings: " + all);
    config(one, "--alter", "--delete-config", "retention.ms");
    config(one, "--describe").saysNot("retention\\.ms=.*").says("cleanup\\.policy=compact,delete .*");
    refusedConfig("InvalidConfigurationException", one, "--add-config", "no.such.setting=1");
    refusedConfig("InvalidConfigurationException", one, "--add-config", "retention.ms=soon");
    refusedConfig("UnknownTopicOrPartitionException", new String[] {"--entity-type", "topics", "--entity-name", topic + "-none"}, "--add-config", "retention.ms=1");
    fails("ConfigCommand", "--describe", "--entity-type", "topics", "--entity-name", topic, "--entity-default");
    config(new String[] {"--entity-type", "topics"}, "--describe").says("Dynamic configs for topic " + topic + " are:");
  }

  static Tool config(String[] entity, String... args) throws Exception {
    List<String> all = new ArrayList<>(List.of(args));
    all.addAll(List.of(entity));
    return run("ConfigCommand", all.toArray(new String[0]));
  }

  static void refusedConfig(String why, String[] entity, String... args) throws Exception {
    List<String> all = new ArrayList<>(List.of(args));
    all.addAll(List.of(entity));
    all.add("--alter");
    Tool tool = fails("ConfigCommand", all.toArray(new String[0]));
    check(tool.err().contains("errors." + why), "\"" + why + "\" is not said: " + tool);
  }

  private static void brokerConfigs() throws Exception {
    String node;
    try (Admin a = admin()) {
      node = "" + a.describeCluster().controller().get().id();
    }
    String[] one = {"--entity-type", "brokers", "--entity-name", node}, every = {"--entity-type", "brokers", "--entity-default"};
    try {
      equal(List.of("Completed updating default config for brokers in the cluster."), config(every, "--alter", "--add-config", "log.retention.ms=7654321000").lines(), "alter");
      equal(List.of("Completed updating config for broker " + node + "."), config(one, "--alter", "--add-config", "log.segment.bytes=536870912").lines(), "alter");
      config(every, "--describe").says("Default configs for brokers in the cluster are:").says("log\\.retention\\.ms=7654321000 sensitive=false synonyms=\\{DYNAMIC_DEFAULT_BROKER_CONFIG:log\\.retention\\.ms=7654321000.*\\}");
      config(one, "--describe").says("Dynamic configs for broker " + node + " are:").says("log\\.segment\\.bytes=536870912 sensitive=false synonyms=\\{DYNAMIC_BROKER_CONFIG:log\\.segment\\.bytes=536870912, DEFAULT_CONFIG:log\\.segment\\.bytes=1073741824\\}");
      config(one, "--describe", "--all").says("num\\.partitions=1 .*").says("log\\.retention\\.ms=7654321000 .*").says("advertised\\.listeners=.*");
      // They are the defaults of topics at once.
      String topic = create("tool-broker-configs", 1);
      config(new String[] {"--entity-type", "topics", "--entity-name", topic}, "--describe", "--all")
          .says("retention\\.ms=7654321000 sensitive=false synonyms=\\{DYNAMIC_DEFAULT_BROKER_CONFIG:log\\.retention\\.ms=7654321000.*\\}")
          .says("segment\\.bytes=536870912 sensitive=false synonyms=\\{DYNAMIC_BROKER_CONFIG:log\\.segment\\.bytes=536870912, DEFAULT_CONFIG:log\\.segment\\.bytes=1073741824\\}");
      refusedConfig("InvalidRequestException", one, "--add-config", "broker.id=7");
      refusedConfig("InvalidRequestException", every, "--add-config", "log.retention.ms=soon");
    } finally {
      config(every, "--alter", "--delete-config", "log.retention.ms");
      config(one, "--alter", "--delete-config", "log.segment.bytes");
    }
    config(every, "--describe").saysNot("log\\.retention\\.ms=.*");
    config(one, "--describe").saysNot("log\\.segment\\.bytes=.*");
  }

  private static void getOffsets() throws Exception {
    String topic = create("tool-offsets", 3);
    long before = System.currentTimeMillis();
    fill(topic, 2, 50);
    try (Admin a = admin()) {
      a.deleteRecords(Map.of(tp(topic, 0), RecordsToDelete.beforeOffset(20))).all().get();
    }
    List<String> ends = List.of(topic + ":0:50", topic + ":1:50", topic + ":2:0");
    equal(ends, run("GetOffsetShell", "--topic", topic).lines(), "latest when nothing is said");
    for (String time : List.of("-1", "latest")) equal(ends, run("GetOffsetShell", "--topic", topic, "--time", time).lines(), time);
    for (String time : List.of("-2", "earliest", "earliest-local")) equal(List.of(topic + ":0:20", topic + ":1:0", topic + ":2:0"), run("GetOffsetShell", "--topic", topic, "--time", time).lines(), time);
    Tool newest = run("GetOffsetShell", "--topic", topic, "--time", "max-timestamp");
    newest.says(topic + ":0:\\d+").says(topic + ":1:\\d+");
    equal(2, newest.lines().size(), "an empty partition has no newest record");
    equal(List.of(topic + ":0:20", topic + ":1:0"), run("GetOffsetShell", "--topic", topic, "--time", "" + before).lines(), "by time");
    equal(List.of(), run("GetOffsetShell", "--topic", topic, "--time", "" + (before + 100_000_000)).lines(), "past the end");
    equal(List.of(topic + ":1:50"), run("GetOffsetShell", "--topic", topic, "--partitions", "1").lines(), "one partition");
    equal(List.of(topic + ":0:50", topic + ":2:0"), run("GetOffsetShell", "--topic-partitions", topic + ":0," + topic.replace("tool-", "to.l-") + ":2-").lines(), "partitions by expression");
    check(fails("GetOffsetShell", "--topic", topic + "-none").err().contains("Could not match any topic-partitions"), "a topic that is not there");
  }

  private static void deleteRecords() throws Exception {
    String topic = create("tool-delete", 2);
    fill(topic, 2, 30);
    Path file = Files.createTempFile("delete-records", ".json");
    try {
      Files.writeString(file, "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":10},{\"topic\":\"" + topic + "\",\"partition\":1,\"offset\":-1}]}");
      run("DeleteRecordsCommand", "--offset-json-file", file.toString()).says("partition: " + topic + "-0\\s+low_watermark: 10").says("partition: " + topic + "-1\\s+low_watermark: 30");
      equal(List.of(topic + ":0:10", topic + ":1:30"), run("GetOffsetShell", "--topic", topic, "--time", "-2").lines(), "earliest");
      Files.writeString(file, "{\"version\":1,\"partitions\":[{\"topic\":\"" + topic + "\",\"partition\":0,\"offset\":31}]}");
      run("DeleteRecordsCommand", "--offset-json-file", file.toString()).says("partition: " + topic + "-0\\s+error: .*OffsetOutOfRangeException.*");
      equal(List.of(topic + ":0:10", topic + ":1:30"), run("GetOffsetShell", "--topic", topic, "--time", "-2").lines(), "earliest after the refusal");
    } finally {
      Files.delete(file);
    }
  }

  private static void logDirs() throws Exception {
    String topic = create("tool-dirs", 2);
    fill(topic, 1, 100);
    Tool tool = run("LogDirsCommand", "--describe", "--topic-list", topic).says("Received log directory information from brokers \\d+");
    Matcher m = Pattern.compile("\\{\"partition\":\"" + topic + "-(\\d)\",\"size\":(\\d+),\"offsetLag\":0,\"isFuture\":false\\}").matcher(tool.out());
    Map<String, Long> sizes = new TreeMap<>();
    while (m.find()) sizes.put(m.group(1), Long.parseLong(m.group(2)));
    check(sizes.containsKey("0") && sizes.get("0") > 1000, "size of the filled partition: " + tool);
    equal(0L, sizes.getOrDefault("1", 0L), "size of the empty one");
    check(tool.out().contains("\"error\":null"), "an error: " + tool);
    check(fails("LogDirsCommand", "--describe", "--broker-list", "77").err().contains("The given brokers do not exist from --broker-list: 77"), "a broker that is not there");
  }

  private static void console() throws Exception {
    String topic = create("tool-console", 1);
    Tool.piped("h1:v1,h2:v2\tk1:value 1\nh1:v3\tk2:NULL\n", "ConsoleProducer", at("--topic", topic, "--reader-property", "parse.key=true", "--reader-property", "key.separator=:", "--reader-property", "parse.headers=true", "--reader-property", "null.marker=NULL"));
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      Tool.piped(codec + " a\n" + codec + " b\n", "ConsoleProducer", at("--topic", topic, "--sync", "--timeout", "5", "--compression-codec", codec));
    }
    Tool read = run("ConsoleConsumer", "--topic", topic, "--partition", "0", "--offset", "earliest", "--max-messages", "12",
        "--formatter-property", "print.key=true", "--formatter-property", "print.headers=true", "--formatter-property", "print.offset=true", "--formatter-property", "print.partition=true", "--formatter-property", "null.literal=NIL");
    List<String> wanted = new ArrayList<>(List.of("Partition:0\tOffset:0\th1:v1,h2:v2\tk1\tvalue 1", "Partition:0\tOffset:1\th1:v3\tk2\tNIL"));
    for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
      for (String which : List.of("a", "b")) wanted.add("Partition:0\tOffset:" + wanted.size() + "\tNO_HEADERS\tNIL\t" + codec + " " + which);
    }
    equal(wanted, read.lines(), "all of it");
    check(read.err().contains("Processed a total of 12 messages"), "the count: " + read.err());
    equal(List.of("lz4 b", "zstd a"), run("ConsoleConsumer", "--topic", topic, "--partition", "0", "--offset", "9", "--max-messages", "2").lines(), "from an offset");
  }

  private static void producerPerformance() throws Exception {
    String topic = create("tool-perf", 3);
    run("ProducerPerformance", "--topic", topic, "--num-records", "20000", "--record-size", "100", "--throughput", "-1", "--command-property", "compression.type=lz4")
        .says("20000 records sent, .* records/sec \\(.*\\), .* ms avg latency, .*");
    long sum = 0;
    for (String l : run("GetOffsetShell", "--topic", topic).lines()) sum += Long.parseLong(l.split(":")[2]);
    equal(20000L, sum, "records there");
  }

  private static void verifiableProducer() throws Exception {
    String topic = create("tool-verifiable", 1);
    Tool tool = Tool.alone("VerifiableProducer", at("--topic", topic, "--max-messages", "500", "--throughput", "-1", "--acks", "-1", "--value-prefix", "7")).end(0);
    tool.says(".*\"name\":\"startup_complete\".*").says(".*\"name\":\"shutdown_complete\".*").says(".*\"name\":\"tool_data\",\"sent\":500,\"acked\":500,.*");
    equal(500, tool.count(".*\"name\":\"producer_send_success\".*"), "acknowledgements");
    tool.says(".*\"name\":\"producer_send_success\",\"key\":null,\"value\":\"7\\.499\",\"offset\":499,.*");
    equal(List.of("7.498", "7.499"), run("ConsoleConsumer", "--topic", topic, "--partition", "0", "--offset", "498", "--max-messages", "2").lines(), "the last two");
  }

  private static void cluster() throws Exception {
    String id;
    try (Admin a = admin()) {
      id = a.describeCluster().clusterId().get();
    }
    equal(List.of("Cluster ID: " + id), run("ClusterTool", "cluster-id").lines(), "cluster id");
    String port = broker.substring(broker.lastIndexOf(':') + 1);
    run("ClusterTool", "list-endpoints").says("\\d+\\s+\\S+\\s+" + port + "\\s+\\S+\\s+unfenced\\s+broker");
    Tool versions = run("BrokerApiVersionsCommand").says("Produce\\(0\\): 0 to 13 \\[usable: 13\\],").says("Fetch\\(1\\): 4 to \\d+ \\[usable: \\d+\\],");
    versions.saysNot("Unknown.*|UNKNOWN.*|.*ERROR.*");
  }
}
