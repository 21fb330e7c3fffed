--- command.lua: the subcommands of :Gemma, as a table; their completion comes from it.

local notify = require('gemma.notify')
local util = require('gemma.util')

local M = {}

---@class gemma.Command
---@field desc string
---@field args string? for the help file
---@field complete (string[]|fun(lead: string): string[])? first argument
---@field range boolean? takes one
---@field opens boolean? a window, or a preview; the command-line window allows neither
---@field run fun(args: string[], bang: boolean, given: gemma.command.Given)

--- What a subcommand may need besides its words.
---@class gemma.command.Given
---@field range integer 0, 1 or 2: how many line numbers were given
---@field line1 integer
---@field line2 integer
---@field text string everything after the subcommand, as it was typed

---@param lines (string|{ [1]: string, [2]: string })[]
local function echo(lines)
  local chunks = {}
  for i, l in ipairs(lines) do
    if type(l) == 'table' then
      chunks[#chunks + 1] = { ('%-9s'):format(l[1]), 'Title' }
      chunks[#chunks + 1] = { l[2] }
    else
      chunks[#chunks + 1] = { l }
    end
    if i < #lines then
      chunks[#chunks + 1] = { '\n' }
    end
  end
  vim.api.nvim_echo(chunks, false, {})
end

---@return { [1]: string, [2]: string }[]
function M.status_lines()
  local s = require('gemma.status').all()
  local out = {}
  local function add(name, fmt, ...)
    out[#out + 1] = { name, fmt:format(...) }
  end
  local state = s.state
  if s.progress then
    state = ('%s (%d %%)'):format(state, s.progress * 100)
  elseif s.reason then
    state = ('%s: %s'):format(state, s.reason)
  end
  add('state', '%s', state)
  if s.model_path then
    local name = s.name and s.name ~= '' and s.name or vim.fs.basename(s.model_path)
    add('model', '%s, %s, %s', name, s.type or '?', util.bytes(s.model_bytes or 0))
    add('file', '%s', vim.fn.fnamemodify(s.model_path, ':~'))
    if s.model_path == require('gemma.models').embedded() then
      add('', 'the toy that comes with the plugin; :Gemma install model for a real one')
    end
    add('device', '%s', s.device or '?')
    if s.device_note and s.device_note ~= '' then
      add('', '%s', s.device_note)
    end
    if s.devices and s.devices ~= '' then
      add('', 'of %s', s.devices)
    end
    add('memory', '%s of caches, %d positions each', util.bytes(s.cache_bytes or 0), s.n_ctx or 0)
    if s.mmproj_path then
      local fmt = '%s; %d rows of pictures and sounds read so far'
      add('media', fmt, vim.fs.basename(s.mmproj_path), s.media_rows or 0)
    else
      add('media', 'none: %s', require('gemma.engine').media_reason() or '?')
    end
    if (s.decode_tok_s or 0) > 0 then
      local fmt = 'reads %.0f, writes %.1f tokens per second'
      add('speed', fmt, s.prefill_tok_s or 0, s.decode_tok_s)
    end
  end
  if s.lender then
    add('owner', 'pid %d, whose model this Neovim borrows', s.lender)
  elseif s.lent_to then
    add('owner', 'this Neovim; %d borrow%s its model', s.lent_to, s.lent_to == 1 and 's' or '')
  end
  add('ghost', '%s', s.paused and 'paused: ' .. s.paused or s.enabled and 'on' or 'off')
  add('here', '%s', s.here)
  return out
end

---@param verb 'enable'|'disable'|'toggle'
---@return fun(args: string[], bang: boolean)
local function switch(verb)
  return function(args, bang)
    local gemma = require('gemma')
    local buf = args[1] == 'buffer' and 0 or nil
    if args[1] and not buf then
      return notify.warn(('unknown argument %s. Try :Gemma %s buffer.'):format(args[1], verb))
    end
    local on = gemma[verb](buf)
    if verb ~= 'toggle' then
      on = verb == 'enable'
    end
    if bang and not on then
      gemma.unload()
    end
    if buf and on and not require('gemma.completion').is_enabled() then
      return notify.info('on in this buffer, but off everywhere. Run :Gemma enable.')
    end
    local against = buf
      and on
      and require('gemma.allow').buffer_reason(vim.api.nvim_get_current_buf())
    if against then
      return notify.info('on in this buffer, but ' .. against)
    end
    local where = buf and ' in this buffer' or ''
    notify.info(('ghost text is %s%s.'):format(on and 'on' or 'off', where))
  end
end

---@type table<string, gemma.Command>
M.commands = {
  status = {
    desc = 'state, model, device, speed, and why there is or is no suggestion here',
    run = function()
      echo(M.status_lines())
    end,
  },
  load = {
    desc = 'load the model',
    run = function()
      require('gemma.completion').setup()
      require('gemma').load(function(err)
        if not err then
          notify.info('the model is loaded.')
        end
      end)
    end,
  },
  unload = {
    desc = 'stop everything and give the memory back',
    run = function()
      require('gemma').unload()
    end,
  },
  enable = {
    desc = 'ghost text on, everywhere or in this buffer',
    args = '[buffer]',
    complete = { 'buffer' },
    run = switch('enable'),
  },
  disable = {
    desc = 'ghost text off; with ! the model is unloaded too',
    args = '[buffer]',
    complete = { 'buffer' },
    run = switch('disable'),
  },
  toggle = {
    desc = 'ghost text on or off',
    args = '[buffer]',
    complete = { 'buffer' },
    run = switch('toggle'),
  },
  stop = {
    desc = 'cancel everything that is being generated',
    run = function()
      require('gemma').stop()
    end,
  },
  device = {
    desc = 'where the model runs from now on; reloads it when it is loaded',
    args = '{auto, cpu, vulkan or vulkan:n}',
    complete = { 'auto', 'cpu', 'vulkan' },
    run = function(args)
      local engine = require('gemma.engine')
      local dev = args[1]
      if not dev then
        local current = engine.device or require('gemma.config').get().device
        return notify.info(('the device is %s.'):format(current))
      elseif not require('gemma.config').types.device.ok(dev) then
        return notify.warn(('unknown device %s. Try auto, cpu, vulkan or vulkan:0.'):format(dev))
      end
      if engine.chosen_elsewhere() then
        return notify.warn(engine.chosen_elsewhere())
      end
      engine.device = dev
      local anew = engine.is_loaded() or engine.state == 'loading'
      if require('gemma.sentinel').tripped() then
        require('gemma.completion').enable(true) -- this is the cure
      end
      if anew then
        engine.unload(true)
        require('gemma').load()
      end
    end,
  },
  image = {
    opens = true,
    desc = 'ask about a picture, see |gemma-media|',
    args = '[path] [question]',
    complete = function(lead)
      return require('gemma.attach').complete(lead)
    end,
    run = function(_, _, given)
      require('gemma.attach').image(given.text)
    end,
  },
  record = {
    desc = 'record and ask about it, see |gemma-recording|',
    args = '{voice, screen, stop or cancel} [question]',
    complete = { 'voice', 'screen', 'stop', 'cancel' },
    run = function(_, _, given)
      require('gemma.attach').record(given.text)
    end,
  },
  dictate = {
    desc = 'type what is said at the cursor; the same again ends it',
    run = function()
      require('gemma.dictate').toggle()
    end,
  },
  shot = {
    desc = 'take a screenshot and ask about it',
    args = '[question]',
    run = function(_, _, given)
      require('gemma.attach').shot(given.text)
    end,
  },
  ask = {
    desc = 'answer a question about the lines of the range, or about the buffer',
    args = '{question}',
    range = true,
    run = function(_, _, given)
      require('gemma.explain').ask_command(given)
    end,
  },
  edit = {
    opens = true,
    desc = 'rewrite the range, or the function here, as a change to accept',
    args = '[instruction]',
    range = true,
    run = function(_, _, given)
      require('gemma.edit').command(given)
    end,
  },
  fix = {
    opens = true,
    desc = 'the same for the diagnostics in the range, or in the function here',
    range = true,
    run = function(_, _, given)
      require('gemma.edit').fix_command(given)
    end,
  },
  commit = {
    opens = true,
    desc = 'write a message for what is staged into the commit buffer, or a new one',
    run = function()
      require('gemma.commit').command()
    end,
  },
  prompt = {
    desc = 'ask or edit as a prompt file says, see |gemma-prompts|',
    args = '[name] [words]',
    range = true,
    complete = function(lead)
      return require('gemma.prompts').names(lead)
    end,
    run = function(_, _, given)
      require('gemma.prompts').command(given)
    end,
  },
  bench = {
    desc = 'measure how fast this machine reads and writes with this model',
    run = function()
      require('gemma.bench').command()
    end,
  },
  answers = {
    opens = true,
    desc = 'open an earlier answer again; 1 is the newest',
    args = '[number]',
    run = function(args)
      require('gemma.chat').answers(args[1])
    end,
  },
  save = {
    desc = 'write the conversation to a Markdown file; with ! over one that is there',
    args = '[file]',
    complete = function(lead)
      return vim.fn.getcompletion(lead, 'file')
    end,
    run = function(_, bang, given)
      require('gemma.chat').save(given.text, bang)
    end,
  },
  think = {
    desc = 'whether the model thinks before it answers, for this session',
    args = '[on|off]',
    complete = { 'on', 'off' },
    run = function(args)
      local conversation = require('gemma.chat.conversation')
      if args[1] and args[1] ~= 'on' and args[1] ~= 'off' then
        return notify.warn(('unknown argument %s. Try :Gemma think on.'):format(args[1]))
      end
      local on = not conversation.thinking()
      if args[1] then
        on = args[1] == 'on'
      end
      conversation.set_thinking(on)
    end,
  },
  install = {
    desc = 'build the library, or download a model (the only use of the network)',
    args = '[lib|model [name or address]]',
    complete = { 'lib', 'model' },
    run = function(args)
      require('gemma.install').run(args[1], args[2])
    end,
  },
  model = {
    desc = 'take another model of the folder; without a name, choose from a list',
    args = '[name]',
    complete = function()
      return require('gemma.install').names()
    end,
    run = function(args)
      require('gemma.install').choose(args[1])
    end,
  },
  verify = {
    desc = 'compare the SHA-256 of the model with the one that it should have',
    args = '[name]',
    complete = function()
      return require('gemma.install').names()
    end,
    run = function(args)
      require('gemma.install').verify(args[1])
    end,
  },
  log = {
    opens = true,
    desc = 'open the log of this session',
    run = function()
      local log = require('gemma.log')
      local lines = log.tail()
      local level = require('gemma.config').get().log
      table.insert(lines, 1, ('# %s (level: %s)'):format(log.path(), level))
      vim.cmd('new')
      local buf = vim.api.nvim_get_current_buf()
      vim.bo[buf].buftype = 'nofile'
      vim.bo[buf].bufhidden = 'wipe'
      vim.bo[buf].swapfile = false
      vim.api.nvim_buf_set_lines(buf, 0, -1, false, lines)
      vim.bo[buf].modifiable = false
      vim.api.nvim_win_set_cursor(0, { #lines, 0 })
    end,
  },
}

---@return string[]
function M.names()
  local names = vim.tbl_keys(M.commands)
  table.sort(names)
  return names
end

---@param args table of nvim_create_user_command
function M.run(args)
  local problems = require('gemma.config').reload()
  for _, p in ipairs(problems) do
    notify.warn('vim.g.gemma: ' .. p .. '.')
  end
  local words = vim.deepcopy(args.fargs)
  local name = table.remove(words, 1) or 'status'
  local cmd = M.commands[name]
  if not cmd then
    local names = table.concat(M.names(), ', ')
    return notify.warn(('unknown command %s. There are: %s.'):format(name, names))
  end
  if args.range > 0 and not cmd.range then
    return notify.warn((':Gemma %s takes no range.'):format(name))
  end
  if cmd.opens and vim.fn.getcmdwintype() ~= '' then
    return notify.warn('not in the command-line window. Close it and ask again.')
  end
  cmd.run(words, args.bang, {
    range = args.range,
    line1 = args.line1,
    line2 = args.line2,
    text = vim.trim(args.args):gsub('^%S+%s*', '', 1),
  })
end

---@param lead string
---@param line string
---@param pos integer
---@return string[]
function M.complete(lead, line, pos)
  -- An escaped blank is part of a word.
  local typed = line:sub(1, pos):gsub('^.-Gemma!?%s+', '', 1):gsub('\\.', '__')
  local words = vim.split(typed, '%s+')
  local from
  if #words <= 1 then
    from = M.names()
  elseif #words == 2 then
    from = M.commands[words[1]] and M.commands[words[1]].complete or {}
    from = type(from) == 'function' and from(lead) or from
  else
    from = {}
  end
  return vim.tbl_filter(function(s)
    return vim.startswith(s, lead)
  end, from)
end

return M
