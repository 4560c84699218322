// kafkajs against the broker named by the first argument: one line a test, exit code 1 when one failed. Further arguments pick tests by a part of
// their names.
import assert from 'node:assert/strict'
import kafkajs from 'kafkajs'

const { Kafka, CompressionTypes, ConfigResourceTypes, PartitionAssigners, logLevel } = kafkajs
const [broker, ...picked] = process.argv.slice(2)
const patience = 45_000 // No wait is longer, and none is expected to come near.
const run = `${process.pid.toString(16)}${(Date.now() & 0xffffff).toString(16)}`
let count = 0
const fresh = kind => `node-${kind}-${run}-${++count}`
const kafka = new Kafka({ clientId: 'the client', brokers: [broker], logLevel: logLevel.NOTHING, retry: { initialRetryTime: 30, maxRetryTime: 500, retries: 20 } })
const admin = kafka.admin()
const producer = kafka.producer({ allowAutoTopicCreation: false })

const pause = ms => new Promise(done => setTimeout(done, ms))
async function until(what, f) {
  const deadline = Date.now() + patience
  for (;;) {
    const v = await f()
    if (v) return v
    if (Date.now() > deadline) throw new Error(`never: ${typeof what === 'function' ? what() : what}`)
    await pause(10)
  }
}

/** Creates and waits until each partition answers: what is refused for a moment, this producer sends again to all partitions of the broker. */
async function make(topic, numPartitions, configEntries) {
  if (!await admin.createTopics({ topics: [{ topic, numPartitions, replicationFactor: 1, configEntries }], waitForLeaders: false })) return false
  await once(a => until(`${topic} answers`, () => a.fetchTopicOffsets(topic).then(found => found.length === numPartitions, () => false)))
  return true
}

/** With an administrator of its own, which asks once: one that was asked for a topic keeps asking for it when it is long gone. */
async function once(f) {
  const a = kafka.admin({ retry: { retries: 0 } })
  await a.connect()
  try {
    return await f(a)
  } finally {
    await a.disconnect()
  }
}
const remove = topic => once(a => a.deleteTopics({ topics: [topic] }))

async function create(kind, numPartitions) {
  const topic = fresh(kind)
  assert.equal(await make(topic, numPartitions), true)
  return topic
}

const range = (from, to) => Array.from({ length: to - from }, (_, i) => from + i)
/** The numbers from (inclusive) to (exclusive), in turn to the partitions. */
const numbered = (topic, partitions, from, to) => producer.send({ topic, acks: -1, messages: range(from, to).map(i => ({ partition: i % partitions, value: `${i}` })) })

/** The code that f ends with. */
async function code(f) {
  try {
    await f()
  } catch (e) {
    let inner = e
    while (!inner.type && (inner.cause || inner.errors?.length || inner.groups?.length)) inner = inner.cause ?? inner.errors?.[0] ?? inner.groups[0].error
    return inner.type ?? inner.code ?? String(e)
  }
  return 'none'
}

/** A consumer of a group: what it owns, how often that was said, what it read. */
class Member {
  constructor(groupId, settings = {}) {
    this.owned = []
    this.joins = 0
    this.got = []
    this.crashes = []
    this.c = kafka.consumer({ groupId, sessionTimeout: 10_000, rebalanceTimeout: 20_000, heartbeatInterval: 100, maxWaitTimeInMs: 100, metadataMaxAge: 500, allowAutoTopicCreation: false, ...settings })
    const { GROUP_JOIN, CRASH } = this.c.events
    this.c.on(GROUP_JOIN, ({ payload }) => {
      this.owned = Object.entries(payload.memberAssignment).flatMap(([t, ps]) => ps.map(p => `${t} ${p}`)).sort()
      this.leader = payload.isLeader
      this.joins++
    })
    this.c.on(CRASH, ({ payload }) => this.crashes.push(payload.error))
  }

  async start(topics, settings = {}, fromBeginning = true) {
    await this.c.connect()
    await this.c.subscribe({ topics, fromBeginning })
    await this.c.run({ eachMessage: async ({ topic, partition, message }) => { this.got.push([partition, Number(message.offset), message.value?.toString()]) }, ...settings })
    return this
  }

  stop() {
    return this.c.disconnect()
  }
}
const join = (group, topic, settings, run, fromBeginning) => new Member(group, settings).start([topic].flat(), run, fromBeginning)

async function shared(topic, partitions, ...members) {
  await until(() => `${members.map(m => `[${m.owned}]`)} share ${partitions}`, () =>
    members.every(m => m.owned.length) && JSON.stringify(members.flatMap(m => m.owned).sort()) === JSON.stringify(range(0, partitions).map(p => `${topic} ${p}`)))
}
const read = (n, ...members) => until(() => `${n} records, but ${members.map(m => m.got.length)}`, () => members.reduce((sum, m) => sum + m.got.length, 0) >= n)
async function committed(groupId, topic) {
  const [{ partitions }] = await admin.fetchOffsets({ groupId, topics: [topic] })
  return Object.fromEntries(partitions.sort((a, b) => a.partition - b.partition).map(p => [p.partition, p.metadata ? `${p.offset} ${p.metadata}` : p.offset]))
}

const tests = {
  async 'groups are moved by an administrator'() {
    const [topic, forward, back, end] = [await create('moved', 2), fresh('group'), fresh('group'), fresh('group')]
    await numbered(topic, 2, 0, 40)
    // All at once: the consumer that this client makes for each takes 5 s to go away.
    await Promise.all([
      admin.setOffsets({ groupId: forward, topic, partitions: [{ partition: 0, offset: '15' }] }),
      admin.resetOffsets({ groupId: back, topic, earliest: true }),
      admin.resetOffsets({ groupId: end, topic }),
    ])
    assert.deepEqual(await committed(forward, topic), { 0: '15', 1: '-1' })
    // It commits -2 for the beginning and -1 for the end, and finds out what they mean when it consumes.
    assert.deepEqual(await committed(back, topic), { 0: '-2', 1: '-2' })
    assert.deepEqual(await committed(end, topic), { 0: '-1', 1: '-1' })
    const f = await join(forward, topic)
    await read(25, f)
    await f.stop()
    assert.deepEqual(f.got.map(r => r.slice(0, 2)).sort((a, b) => a[0] - b[0] || a[1] - b[1]), [...range(15, 20).map(o => [0, o]), ...range(0, 20).map(o => [1, o])])
    const b = await join(back, topic, {}, { autoCommitInterval: 50 })
    await read(40, b)
    await until('automatic commits', async () => JSON.stringify(await committed(back, topic)) === '{"0":"20","1":"20"}')
    await b.stop()
    assert.equal(b.got.length, 40)
    const e = await join(end, topic, {}, {}, false)
    await shared(topic, 2, e)
    let next = 40
    await until('a record that came after', async () => (await numbered(topic, 2, next, next += 2), e.got.length > 0))
    await e.stop()
    assert.ok(Number(e.got[0][2]) >= 40, String(e.got[0]))
  },

  async 'round trips, gzip and not, idempotent and not'() {
    for (const compression of [CompressionTypes.None, CompressionTypes.GZIP]) {
      for (const idempotent of [false, true]) {
        const topic = await create('codec', 3)
        const p = kafka.producer({ idempotent, allowAutoTopicCreation: false })
        await p.connect()
        const messages = range(0, 300).map(i => ({ partition: i % 3, key: i % 7 ? `key ${i}` : null, value: i % 11 ? `value ${i} `.repeat(i % 50 + 1) : null, headers: { n: `${i}`, list: ['a', 'b'] } }))
        const answers = await p.send({ topic, acks: -1, compression, messages })
        assert.deepEqual(answers.map(a => [a.partition, a.errorCode, a.baseOffset]).sort(), [[0, 0, '0'], [1, 0, '0'], [2, 0, '0']])
        await p.disconnect()
        const got = []
        const m = await join(fresh('group'), topic, {}, { eachMessage: async ({ partition, message }) => { got.push([partition, Number(message.offset), message]) } })
        await until(() => `300 records, but ${got.length}`, () => got.length >= 300)
        await m.stop()
        assert.equal(got.length, 300)
        for (const [partition, offset, message] of got) {
          const wanted = messages[offset * 3 + partition]
          assert.deepEqual([message.key?.toString() ?? null, message.value?.toString() ?? null], [wanted.key, wanted.value])
          assert.deepEqual(JSON.parse(JSON.stringify(message.headers, (_, v) => v?.type === 'Buffer' ? Buffer.from(v.data).toString() : v)), wanted.headers)
        }
      }
    }
  },

  async 'rebalances: members come and go'() {
    const [topic, group] = [await create('group', 6), fresh('group')]
    await numbered(topic, 6, 0, 300)
    const a = await join(group, topic)
    await shared(topic, 6, a)
    await read(300, a)
    const b = await join(group, topic)
    await shared(topic, 6, a, b)
    assert.deepEqual([a.owned.length, b.owned.length], [3, 3])
    const c = await join(group, topic)
    await shared(topic, 6, a, b, c)
    assert.deepEqual([a, b, c].map(m => m.owned.length), [2, 2, 2])
    assert.deepEqual([a, b, c].filter(m => m.leader).length, 1, 'leaders')
    await numbered(topic, 6, 300, 600)
    await read(600, a, b, c)
    // It commits when it goes; so nobody reads that again.
    await b.stop()
    await shared(topic, 6, a, c)
    await numbered(topic, 6, 600, 660)
    await read(660, a, b, c)
    await a.stop()
    await shared(topic, 6, c)
    await c.stop()
    const all = [a, b, c].flatMap(m => m.got)
    assert.deepEqual(all.map(r => Number(r[2])).sort((x, y) => x - y), range(0, 660))
    for (const m of [a, b, c]) assert.deepEqual(m.crashes, [])
    assert.deepEqual(await committed(group, topic), { 0: '110', 1: '110', 2: '110', 3: '110', 4: '110', 5: '110' })
  },

  async 'an assigner of its own, with user data'() {
    const [topic, group] = [await create('assigner', 4), fresh('group')]
    // The leader gives everything to the one whose user data says so.
    const assigner = mine => ({ cluster }) => ({
      name: 'ByUserData',
      version: 1,
      async assign({ members, topics }) {
        const metadata = m => kafkajs.AssignerProtocol.MemberMetadata.decode(m.memberMetadata)
        const chosen = members.find(m => metadata(m).userData.toString() === 'me') ?? members[0]
        return members.map(({ memberId }) => ({
          memberId,
          memberAssignment: kafkajs.AssignerProtocol.MemberAssignment.encode({
            version: 1,
            assignment: memberId === chosen.memberId ? Object.fromEntries(topics.map(t => [t, cluster.findTopicPartitionMetadata(t).map(p => p.partitionId)])) : {},
            userData: Buffer.from('from the leader'),
          }),
        }))
      },
      protocol: ({ topics }) => ({ name: 'ByUserData', metadata: kafkajs.AssignerProtocol.MemberMetadata.encode({ version: 1, topics, userData: Buffer.from(mine) }) }),
    })
    const a = await join(group, topic, { partitionAssigners: [assigner('not me')] })
    await shared(topic, 4, a)
    const b = await join(group, topic, { partitionAssigners: [assigner('me')] })
    await until(() => `all is the second one's: [${a.owned}] [${b.owned}]`, () => a.owned.length === 0 && b.owned.length === 4)
    const { groups: [d] } = await admin.describeGroups([group])
    assert.deepEqual([d.protocol, d.protocolType, d.state, d.members.length], ['ByUserData', 'consumer', 'Stable', 2])
    for (const m of d.members) {
      const found = kafkajs.AssignerProtocol.MemberMetadata.decode(m.memberMetadata)
      const assigned = kafkajs.AssignerProtocol.MemberAssignment.decode(m.memberAssignment)
      assert.equal(assigned.userData.toString(), 'from the leader')
      assert.equal((assigned.assignment[topic] ?? []).length, found.userData.toString() === 'me' ? 4 : 0)
    }
    // Without a protocol in common nobody gets in.
    const c = new Member(group, { partitionAssigners: [PartitionAssigners.roundRobin], retry: { retries: 0 } })
    c.start([topic]).catch(() => {})
    await until('it is refused', () => c.crashes.length > 0)
    assert.equal(await code(async () => { throw c.crashes[0] }), 'INCONSISTENT_GROUP_PROTOCOL')
    await Promise.all([a, b, c].map(m => m.stop()))
  },

  async 'commits, with metadata'() {
    const [topic, group] = [await create('commit', 2), fresh('group')]
    await numbered(topic, 2, 0, 40)
    const a = await join(group, topic, {}, { autoCommit: false })
    await read(40, a)
    await a.c.commitOffsets([{ topic, partition: 0, offset: '7', metadata: 'seven ü' }, { topic, partition: 1, offset: '9' }])
    assert.deepEqual(await committed(group, topic), { 0: '7 seven ü', 1: '9' })
    assert.equal(await code(() => a.c.commitOffsets([{ topic, partition: 0, offset: '8', metadata: 'x'.repeat(5000) }])), 'OFFSET_METADATA_TOO_LARGE')
    await a.stop()
    const b = await join(group, topic, {}, { autoCommit: false })
    await read(24, b)
    assert.deepEqual(b.got.filter(r => r[0] === 0).map(r => r[1]), range(7, 20))
    assert.deepEqual(b.got.filter(r => r[0] === 1).map(r => r[1]), range(9, 20))
    await b.stop()
  },

  async 'seeks and pauses'() {
    const [topic, group] = [await create('seek', 2), fresh('group')]
    await numbered(topic, 2, 0, 100)
    const a = await join(group, topic, {}, { autoCommit: false })
    await read(100, a)
    a.c.pause([{ topic, partitions: [0] }])
    assert.deepEqual(a.c.paused(), [{ topic, partitions: [0] }])
    a.got.length = 0
    await numbered(topic, 2, 100, 110)
    await read(5, a)
    assert.deepEqual(a.got.map(r => r.slice(0, 2)), range(50, 55).map(o => [1, o]))
    a.got.length = 0
    a.c.resume([{ topic }])
    await read(5, a)
    assert.deepEqual(a.got, range(50, 55).map(o => [0, o, `${2 * o}`]))
    a.got.length = 0
    a.c.seek({ topic, partition: 0, offset: '41' })
    await read(14, a)
    assert.deepEqual(a.got, range(41, 55).map(o => [0, o, `${2 * o}`]))
    await a.stop()
  },

  async 'groups are listed, described and deleted'() {
    const [topic, group] = [await create('groups', 2), fresh('group')]
    await numbered(topic, 2, 0, 10)
    const a = await join(group, topic)
    await shared(topic, 2, a)
    await read(10, a)
    const listed = async () => (await admin.listGroups()).groups.find(g => g.groupId === group)
    assert.deepEqual(await listed(), { groupId: group, protocolType: 'consumer' })
    const { groups: [d] } = await admin.describeGroups([group])
    assert.deepEqual([d.errorCode, d.state, d.protocol, d.members.length, d.members[0].clientId], [0, 'Stable', 'RoundRobinAssigner', 1, 'the client'])
    assert.match(d.members[0].clientHost, /127\.0\.0\.1/)
    assert.equal(await code(() => admin.deleteGroups([group])), 'NON_EMPTY_GROUP')
    await a.stop()
    assert.deepEqual((await admin.describeGroups([group])).groups.map(g => [g.state, g.members.length]), [['Empty', 0]])
    assert.deepEqual(await admin.deleteGroups([group]), [{ groupId: group, errorCode: 0 }])
    assert.equal(await listed(), undefined)
    assert.deepEqual((await admin.describeGroups([group])).groups.map(g => g.state), ['Dead'])
    assert.equal(await code(() => admin.deleteGroups([group])), 'GROUP_ID_NOT_FOUND')
    assert.deepEqual(await committed(group, topic), { 0: '-1', 1: '-1' })
  },

  async 'topics are created, described, grown, configured, emptied and deleted'() {
    const topic = fresh('topics')
    const topics = [{ topic, numPartitions: 2, replicationFactor: 1, configEntries: [{ name: 'retention.ms', value: '3600000' }] }]
    assert.equal(await admin.createTopics({ topics, validateOnly: true, waitForLeaders: false }), true)
    assert.equal((await admin.listTopics()).includes(topic), false)
    assert.equal(await make(topic, 2, topics[0].configEntries), true)
    assert.equal(await admin.createTopics({ topics, waitForLeaders: false }), false)
    assert.equal(await code(() => admin.createTopics({ topics: [{ topic: 'no name!' }] })), 'INVALID_TOPIC_EXCEPTION')
    await admin.createPartitions({ topicPartitions: [{ topic, count: 3 }] })
    assert.equal(await code(() => admin.createPartitions({ topicPartitions: [{ topic, count: 1 }] })), 'INVALID_PARTITIONS')
    const described = await until('three partitions', async () => { const [t] = (await admin.fetchTopicMetadata({ topics: [topic] })).topics; return t.partitions.length === 3 && t })
    assert.deepEqual(described.partitions.map(p => [p.partitionId, p.leader, p.replicas, p.isr]).sort(), range(0, 3).map(p => [p, 1, [1], [1]]))
    const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
    const config = async name => (await admin.describeConfigs({ includeSynonyms: true, resources: [resource] })).resources[0].configEntries.find(c => c.configName === name)
    const found = await config('retention.ms')
    assert.deepEqual([found.configValue, found.configSource, found.configSynonyms[0]?.configName], ['3600000', 1, 'retention.ms'])
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries: [{ name: 'max.message.bytes', value: '70000' }] }] })
    await until('all is replaced', async () => (await config('retention.ms')).configValue === '604800000' && (await config('max.message.bytes')).configValue === '70000')
    assert.equal(await code(() => admin.alterConfigs({ validateOnly: true, resources: [{ ...resource, configEntries: [{ name: 'max.message.bytes', value: 'many' }] }] })), 'INVALID_CONFIG')
    await producer.send({ topic, messages: range(0, 30).map(i => ({ partition: i % 3, value: `${i}`, timestamp: `${1_700_000_000_000 + i * 1000}` })) })
    // An administrator of its own: one that was asked for offsets of a topic keeps asking for it when it is long gone.
    const own = kafka.admin()
    await own.connect()
    await own.fetchTopicOffsets(topic) // Else this client knows no leader for the next request.
    await own.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }, { partition: 1, offset: '-1' }] })
    const offsets = (await own.fetchTopicOffsets(topic)).sort((a, b) => a.partition - b.partition)
    assert.deepEqual(offsets.map(o => [o.low, o.high]), [['4', '10'], ['10', '10'], ['0', '10']])
    const times = (await own.fetchTopicOffsetsByTimestamp(topic, 1_700_000_000_000 + 20_500)).sort((a, b) => a.partition - b.partition)
    assert.deepEqual(times.map(o => o.offset), ['7', '10', '7'])
    await own.disconnect()
    await remove(topic)
    await until('it is gone', async () => !(await admin.listTopics()).includes(topic))
    assert.equal(await code(() => remove(topic)), 'UNKNOWN_TOPIC_OR_PARTITION')
  },

  async 'the cluster describes itself'() {
    const d = await admin.describeCluster()
    assert.ok(d.clusterId)
    assert.deepEqual([d.controller, d.brokers.map(b => b.nodeId)], [1, [1]])
    const { resources: [r] } = await admin.describeConfigs({ includeSynonyms: false, resources: [{ type: ConfigResourceTypes.BROKER, name: '1' }] })
    for (const name of ['log.retention.ms', 'message.max.bytes', 'num.partitions']) assert.ok(r.configEntries.some(c => c.configName === name), name)
  },

  async 'a topic is deleted and made again under a consumer'() {
    const [topic, other, group] = [await create('again', 2), await create('stays', 1), fresh('group')]
    const p = kafka.producer({ allowAutoTopicCreation: false })
    await p.connect()
    await p.send({ topic, messages: range(0, 20).map(i => ({ partition: i % 2, value: `${i}` })) })
    await p.disconnect()
    const a = await join(group, [topic, other], { retry: { retries: 100, initialRetryTime: 30, maxRetryTime: 200, restartOnFailure: async () => true } })
    await read(20, a)
    await a.c.commitOffsets([{ topic, partition: 0, offset: '10' }, { topic, partition: 1, offset: '10' }])
    await remove(topic)
    await until('the name is free', async () => {
      try {
        return await make(topic, 2)
      } catch {
        return false
      }
    })
    a.got.length = 0
    await p.connect()
    await p.send({ topic, messages: range(0, 40).map(i => ({ partition: i % 2, value: `new ${i}` })) })
    await p.disconnect()
    // What was committed for the topic that is gone is gone as well; this client may keep its old positions until it resets them.
    await until(() => `the second topic's last: ${a.got.length}`, () => ['new 38', 'new 39'].every(v => a.got.some(r => r[2] === v)))
    for (const [partition, offset, value] of a.got) assert.equal(value, `new ${2 * offset + partition}`)
    await a.stop()
    assert.deepEqual(await committed(group, topic), { 0: '20', 1: '20' })
  },

  async 'a pattern takes up a topic made later'() {
    const [stem, group] = [fresh('pattern'), fresh('group')]
    await make(`${stem}.a`, 1)
    const a = await join(group, new RegExp(`^${stem}\\..*`))
    await until('the first', () => a.owned.length === 1)
    await admin.createPartitions({ topicPartitions: [{ topic: `${stem}.a`, count: 2 }] })
    await until(() => `a partition added: ${a.owned}`, () => a.owned.join() === `${stem}.a 0,${stem}.a 1`)
    await a.stop()
  },
}

let passed = 0, failed = 0
async function one([name, f]) {
  const began = Date.now()
  try {
    let timer
    await Promise.race([f(), new Promise((_, no) => { timer = setTimeout(() => no(new Error('not done in time')), 2 * patience) })]).finally(() => clearTimeout(timer))
    passed++
    console.log(`ok      kafkajs: ${name} (${Date.now() - began} ms)`)
  } catch (e) {
    failed++
    const where = String(e.stack).match(/interop\.js:(\d+)/)?.[1]
    console.log(`FAILED  kafkajs: ${name}: ${String(e.message ?? e).split(/\s+/).join(' ').slice(0, 600)} (line ${where})`)
  }
}

await admin.connect()
await producer.connect()
const queue = Object.entries(tests).filter(([name]) => !picked.length || picked.some(p => name.includes(p)))
await Promise.all(range(0, 4).map(async () => { while (queue.length) await one(queue.shift()) }))
console.log(`${passed} passed, ${failed} failed`)
// Consumers of a failed test may still run.
process.exit(failed ? 1 : 0)
